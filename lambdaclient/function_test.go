package lambdaclient_test

import (
	"context"
	"io"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/lambdalab"
)

func idle(n int) func([]lambdalab.Environment) bool {
	return func(all []lambdalab.Environment) bool {
		count := 0
		for _, e := range all {
			if e.State == lambdalab.Idle {
				count++
			}
		}
		return count == n
	}
}

func TestTwoFunctionsBehindNATsGreetEachOther(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	var listener, dialler result
	g, ctx := errgroup.WithContext(t.Context())
	g.Go(func() (err error) { listener, err = c.invoke(ctx, task{Name: "b"}); return err })
	g.Go(func() (err error) { dialler, err = c.invoke(ctx, task{Name: "a", Peer: "b"}); return err })
	must(t, g.Wait())
	if listener.Greeting != "a" || dialler.Greeting != "hello a" {
		t.Errorf("listener heard %q, dialler %q", listener.Greeting, dialler.Greeting)
	}
	if !listener.Cold || !dialler.Cold {
		t.Error("first invocations say that they were warm")
	}
	if listener.Observed == dialler.Observed {
		t.Errorf("both have the address %s", listener.Observed)
	}
}

func TestFrozenFunctionComesBackThoughTheServerHasForgottenIt(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	answer := func(p *client.Client) {
		conn, err := p.Accept(t.Context())
		must(t, err)
		stream, err := conn.AcceptStream(t.Context())
		must(t, err)
		name, err := io.ReadAll(stream)
		must(t, err)
		_, err = stream.Write(append([]byte("hello "), name...))
		must(t, err)
		must(t, stream.Close())
		<-conn.Context().Done()
	}
	greetPeer := func(wantCold bool) {
		t.Helper()
		p := c.peer("peer")
		var r result
		g, ctx := errgroup.WithContext(t.Context())
		g.Go(func() (err error) { r, err = c.invoke(ctx, task{Name: "a", Peer: "peer"}); return err })
		answer(p)
		must(t, g.Wait())
		if r.Cold != wantCold || r.Greeting != "hello a" {
			t.Errorf("cold %v, greeting %q", r.Cold, r.Greeting)
		}
		must(t, p.Close())
		_, err := c.service.Await(t.Context(), idle(1)) // frozen by SIGSTOP
		must(t, err)
	}
	greetPeer(true)
	c.rendezvous.Stop()
	c.rendezvous.Start()
	greetPeer(false)
	greetPeer(false) // and once more, with nothing lost in between
}

func TestShutDownFunctionLeavesAtOnce(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	p := c.peer("peer")
	g, ctx := errgroup.WithContext(t.Context())
	g.Go(func() error { _, err := c.invoke(ctx, task{Name: "a", Peer: "peer"}); return err })
	conn, err := p.Accept(t.Context())
	must(t, err)
	stream, err := conn.AcceptStream(t.Context())
	must(t, err)
	must(t, stream.Close())
	must(t, g.Wait())
	_, err = c.service.Await(t.Context(), idle(1))
	must(t, err)

	c.service.Reap("greet") // SHUTDOWN and SIGTERM, as Lambda does with an idle environment

	// The name is free at once for somebody else, with another key; a server that had to wait for a timeout would refuse it.
	var again *client.Client
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	again = c.peer("a")
	if _, err := again.WaitPeers(ctx, 2, ""); err != nil {
		t.Error(err)
	}
}
