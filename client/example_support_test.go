package client_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/server/rendezvous/rendezvoustest"
)

// exampleTB lets examples use what was made for tests.
type exampleTB struct {
	testing.TB // none: only what follows is called
	cleanups   []func()
}

func (*exampleTB) Helper()                   {}
func (*exampleTB) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
func (*exampleTB) Errorf(f string, a ...any) { fmt.Printf(f+"\n", a...) }
func (e *exampleTB) Cleanup(f func())        { e.cleanups = append(e.cleanups, f) }

func (e *exampleTB) end() {
	for i := len(e.cleanups) - 1; i >= 0; i-- {
		e.cleanups[i]()
	}
}

// exampleURL starts a rendezvous on loopback and returns its connection string. A program gets that from its environment.
func exampleURL() (url string, stop func()) {
	tb := new(exampleTB)
	return rendezvoustest.Start(tb, nil).URL(), tb.end
}

// examplePair returns both ends of a connection between two clients; a real program has one of them.
func examplePair(ctx context.Context, url string) (here, there *client.Conn, leave func()) {
	alice, err := client.SignIn(ctx, client.Config{URL: url, Group: "example", Name: "alice"})
	if err != nil {
		panic(err)
	}
	bob, err := client.SignIn(ctx, client.Config{URL: url, Group: "example", Name: "bob"})
	if err != nil {
		panic(err)
	}
	here, err = alice.Connect(ctx, "bob", client.WaitForPeer(5*time.Second))
	if err != nil {
		panic(err)
	}
	if there, err = bob.Accept(ctx); err != nil {
		panic(err)
	}
	return here, there, func() { _ = alice.Close(); _ = bob.Close() }
}
