package lambdaclient

import (
	"context"
	"testing"
	"time"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/server/rendezvous/rendezvoustest"
)

func TestAThawWithoutTheRendezvousFailsInTime(t *testing.T) {
	t.Parallel()
	server := rendezvoustest.Start(t, nil)
	s := newSession()
	t.Cleanup(s.SignOut)
	cfg := client.Config{URL: server.URL(), Group: "g", Name: "f", SignInTimeout: 2 * time.Second}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // the function's deadline
	defer cancel()
	s.begin()
	c, err := s.SignIn(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	server.Stop()
	s.begin()
	began := time.Now()
	if _, err = s.SignIn(ctx, cfg); client.ReasonOf(err) != protocol.ReasonServerUnreachable {
		t.Errorf("without the rendezvous: %v, want server_unreachable", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	if ctx.Err() != nil {
		t.Fatal("the function's time is over")
	}
	server.Start()
	cfg.SignInTimeout = 0
	again, err := s.SignIn(ctx, cfg)
	if err != nil || again != c {
		t.Errorf("with the rendezvous back: %v, the same client: %v", err, again == c)
	}
}
