// Command bradawl connects two machines behind NATs directly, and says why it
// cannot. Run it with --help.
package main

import (
	"context"
	"os"

	"github.com/bradawl/bradawl/client/bradawl/commands"
)

func main() {
	// quic-go would print a warning about the socket's buffers, which few users can do anything about.
	_ = os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")
	os.Exit(commands.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
