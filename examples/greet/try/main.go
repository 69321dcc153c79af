// Try runs the function of examples/greet twice in a local Lambda service, each time behind a NAT of its own, and prints
// what the two heard:
//
//	go run ./examples/greet/try
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/bradawl/bradawl/internal/natlab"
)

func main() {
	if err := natlab.Enter(); err != nil {
		fail(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	all, err := try(ctx)
	stop()
	if err != nil {
		fail(err)
	}
	for _, a := range all {
		fmt.Printf("%s, seen as %s, heard %q\n", a.name, a.Address, a.Heard)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "try:", err)
	os.Exit(1)
}
