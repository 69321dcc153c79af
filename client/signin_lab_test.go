package client_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/token"
)

func isErr(err, target error) bool { return errors.Is(err, target) }

func TestSignInFailsWithAReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	host := w.behind("a", natlab.PortRestricted())
	claims := func(c token.Claims) func(*protocol.URL) {
		return func(u *protocol.URL) {
			other, err := protocol.ParseURL(w.URLWith(c))
			must(t, err)
			u.Token = other.Token
		}
	}
	hour := time.Now().Add(time.Hour)
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	foreign, err := token.Mint(stranger, token.Claims{Group: "*", Name: "*", Expires: hour})
	must(t, err)
	other, err := identity.New()
	must(t, err)
	for _, tc := range []struct {
		name   string
		change func(*protocol.URL)
		want   protocol.Reason
		says   string
	}{
		{"token for another group", claims(token.Claims{Group: "x", Name: "*", Expires: hour}), protocol.ReasonUnauthorized, "group"},
		{"token for another name", claims(token.Claims{Group: "*", Name: "x", Expires: hour}), protocol.ReasonUnauthorized, "name"},
		{"expired token", claims(token.Claims{Group: "*", Name: "*", Expires: time.Now().Add(-time.Hour)}), protocol.ReasonUnauthorized, "expired"},
		{"token of another key", func(u *protocol.URL) { u.Token = foreign }, protocol.ReasonUnauthorized, "another key"},
		{"wrong pin", func(u *protocol.URL) { u.Pins = []identity.Fingerprint{other.Fingerprint()} }, protocol.ReasonIdentityMismatch, "pin"},
		{"no pin, no public certificate", func(u *protocol.URL) { u.Pins = nil }, protocol.ReasonIdentityMismatch, "certificate"},
		{"nobody there", func(u *protocol.URL) { u.Host = net.JoinHostPort(host.Site().PublicAddr().String(), "9") }, protocol.ReasonServerUnreachable, "no answer"},
		{"name does not resolve", func(u *protocol.URL) { u.Host = "nowhere.invalid:3478" }, protocol.ReasonServerUnreachable, "resolve"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := w.config(host, "a")
			u, err := protocol.ParseURL(cfg.URL)
			must(t, err)
			tc.change(&u)
			cfg.URL = u.Secret()
			cfg.SignInTimeout = 2 * time.Second
			c, err := client.SignIn(within(t, 10*time.Second), cfg)
			if err == nil {
				_ = c.Close()
				t.Fatal("signed in")
			}
			if client.ReasonOf(err) != tc.want || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want %s and the word %q", err, tc.want, tc.says)
			}
			if strings.Contains(err.Error(), u.Token) || strings.Contains(err.Error(), "\n") {
				t.Errorf("the error shows the token or has several lines: %q", err)
			}
		})
	}
}

func TestBlockedUDPIsToldFromAnAbsentServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := client.SignIn(within(t, 10*time.Second), w.config(w.behind("a", natlab.UDPBlocked()), "a"))
	if client.ReasonOf(err) != protocol.ReasonUDPBlocked {
		t.Fatalf("got %v, want udp_blocked", err)
	}
	if r, ok := client.BlockedReport(err); !ok || !r.UDPBlocked {
		t.Errorf("report %+v, %v", r, ok)
	}
}

func TestANameInUseIsRefusedToAnotherKeyAndReturnedToItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, err := identity.New()
	must(t, err)
	own := func(c *client.Config) { c.Identity = id }
	w.client(w.behind("a", natlab.PortRestricted()), "a", own)
	ctx := within(t, 10*time.Second)
	if _, err := client.SignIn(ctx, w.config(w.behind("x", natlab.PortRestricted()), "a")); client.ReasonOf(err) != protocol.ReasonUnauthorized {
		t.Errorf("another key: %v, want unauthorized", err)
	}
	cfg := w.config(w.behind("y", natlab.PortRestricted()), "a")
	own(&cfg)
	c, err := client.SignIn(ctx, cfg)
	must(t, err)
	must(t, c.Close())
}

func TestNetcheckNamesTheMapping(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		nat  *natlab.NAT
		want client.Mapping
		kept bool
	}{
		{nil, client.MappingNone, true},
		{ptr(natlab.PortRestricted()), client.MappingEndpointIndependent, true},
		{ptr(natlab.FullCone()), client.MappingEndpointIndependent, true},
		{ptr(natlab.Symmetric()), client.MappingAddressAndPortDependent, false},
	} {
		w := newWorld(t)
		var h *natlab.Host
		var err error
		if tc.nat == nil {
			h, err = w.lab.AddHost("a")
			must(t, err)
		} else {
			h = w.behind("a", *tc.nat)
		}
		c := w.client(h, "a")
		r, err := c.Netcheck(within(t, 10*time.Second))
		must(t, err)
		if r.Mapping != tc.want || r.PortPreserved != tc.kept || r.ControlRTT <= 0 || !r.Observed.IsValid() {
			t.Errorf("%v: %+v, want %s", tc.nat, r, tc.want)
		}
		for _, line := range r.Explain() {
			t.Log(line)
		}
		if s := c.Status(); !s.SignedIn || s.Mapping != tc.want || !s.ClockSynced {
			t.Errorf("status %+v", s)
		}
	}
}

func ptr[T any](v T) *T { return &v }

func TestTheServerMayRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var mu sync.Mutex
	again := make(map[string]chan struct{})
	watch := func(name string) func(*client.Config) {
		ch := make(chan struct{}, 16)
		mu.Lock()
		again[name] = ch
		mu.Unlock()
		return func(c *client.Config) {
			c.OnEvent = func(e client.Event) {
				if e.Kind == client.EventSignedIn {
					ch <- struct{}{}
				}
			}
		}
	}
	a := w.client(w.behind("a", natlab.PortRestricted()), "a", watch("a"))
	b := w.client(w.behind("b", natlab.PortRestricted()), "b", watch("b"))
	echo(t, b)
	ctx := within(t, 40*time.Second)
	conn, err := a.Connect(ctx, "b")
	must(t, err)
	must(t, conn.Proven(ctx))
	<-again["a"]
	<-again["b"]

	w.Stop()
	roundTrip(t, conn, 1000)
	pending := make(chan error, 1)
	go func() { // asked for while the server is away
		late, err := a.Connect(ctx, "b", client.WaitForPeer(20*time.Second))
		if err == nil {
			err = late.Proven(ctx)
		}
		pending <- err
	}()
	w.Start()
	for name, ch := range again {
		select {
		case <-ch:
		case <-ctx.Done():
			t.Fatalf("%s did not sign in again", name)
		}
	}
	must(t, <-pending)
	roundTrip(t, conn, 1000)
	must(t, conn.Context().Err())
}

func TestConnectGivesUpWhenTheServerStaysAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.client(w.behind("a", natlab.PortRestricted()), "a", func(c *client.Config) { c.ServerTimeout = 500 * time.Millisecond })
	w.Stop()
	_, err := a.Connect(within(t, 20*time.Second), "b")
	if client.ReasonOf(err) != protocol.ReasonServerUnreachable {
		t.Fatalf("got %v, want server_unreachable", err)
	}
}

func TestResumeSignsInAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lost := make(chan struct{}, 16)
	a := w.client(w.behind("a", natlab.PortRestricted()), "a", func(c *client.Config) {
		c.OnEvent = func(e client.Event) {
			if e.Kind == client.EventControlLost {
				lost <- struct{}{}
			}
		}
	})
	ctx := within(t, 20*time.Second)
	must(t, a.Resume(ctx))
	w.Stop()
	<-lost
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if err := a.Resume(short); client.ReasonOf(err) != protocol.ReasonCanceled {
		t.Errorf("resume without a server: %v, want canceled", err)
	}
	w.Start()
	must(t, a.Resume(ctx))
	if !a.Status().SignedIn {
		t.Error("not signed in after Resume")
	}
}
