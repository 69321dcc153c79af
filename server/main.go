// Command server is the rendezvous at which peers behind NATs find one another.
package main

import (
	"context"
	"os"

	"github.com/bradawl/bradawl/server/daemon"
)

func main() {
	os.Exit(daemon.Main(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
