package client_test

import (
	"errors"
	"testing"
	"time"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/token"
)

// events keeps what a client has told, by kind.
type events map[client.EventKind]chan client.Event

func watchEvents(kinds ...client.EventKind) (events, func(*client.Config)) {
	e := make(events)
	for _, k := range kinds {
		e[k] = make(chan client.Event, 1024)
	}
	return e, func(c *client.Config) {
		c.OnEvent = func(ev client.Event) {
			if ch := e[ev.Kind]; ch != nil {
				ch <- ev
			}
		}
	}
}

// waiters starts one call of each kind that waits for the rendezvous.
func waiters(t *testing.T, c *client.Client) chan error {
	ctx := within(t, 20*time.Second)
	errs := make(chan error, 4)
	go func() { _, err := c.Connect(ctx, "ghost", client.WaitForPeer(20*time.Second)); errs <- err }()
	go func() { _, err := c.WaitPeers(ctx, 9, ""); errs <- err }()
	go func() { _, err := c.Accept(ctx); errs <- err }()
	g, err := c.Mesh(ctx, "m", 9)
	must(t, err)
	go func() { _, err := g.Next(ctx); errs <- err }()
	return errs
}

func TestAReplacedClientStaysAwayAndKeepsItsConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, err := identity.New()
	must(t, err)
	own := func(c *client.Config) { c.Identity = id }
	b := w.client(w.behind("b", natlab.PortRestricted()), "b")
	echo(t, b)
	first, watch := watchEvents(client.EventSignedIn, client.EventSentOff)
	a := w.client(w.behind("a", natlab.PortRestricted()), "a", own, watch)
	ctx := within(t, 30*time.Second)
	conn, err := a.Connect(ctx, "b")
	must(t, err)
	must(t, conn.Proven(ctx))
	waiting := waiters(t, a)

	second, watch2 := watchEvents(client.EventControlLost, client.EventSentOff)
	a2 := w.client(w.behind("y", natlab.PortRestricted()), "a", own, watch2)
	for range cap(waiting) {
		if err := <-waiting; !errors.Is(err, client.ErrReplaced) || client.ReasonOf(err) != protocol.ReasonCanceled {
			t.Errorf("a call that waited: %v, want %v", err, client.ErrReplaced)
		}
	}
	<-first[client.EventSentOff]
	if _, err := a.Connect(ctx, "b"); !errors.Is(err, client.ErrReplaced) {
		t.Errorf("a later Connect: %v", err)
	}
	if _, err := a.Accept(ctx); !errors.Is(err, client.ErrReplaced) {
		t.Errorf("a later Accept: %v", err)
	}
	if s := a.Status(); s.SignedIn || !errors.Is(s.SentOff, client.ErrReplaced) || s.Conns != 1 {
		t.Errorf("status %+v", s)
	}
	roundTrip(t, conn, 1000)
	if n := len(first[client.EventSignedIn]); n != 1 {
		t.Errorf("the replaced client signed in %d times", n)
	}
	if len(second[client.EventControlLost]) > 0 || !a2.Status().SignedIn {
		t.Error("the one that took the place has lost it")
	}

	must(t, a.Resume(ctx)) // takes the place back
	if s := a.Status(); !s.SignedIn || s.SentOff != nil {
		t.Errorf("after Resume: %+v", s)
	}
	if e := <-second[client.EventSentOff]; !errors.Is(e.Err, client.ErrReplaced) {
		t.Errorf("the other one hears %v", e.Err)
	}
}

func TestAClientWhoseTokenHasExpiredSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const leeway = 30 * time.Second
	expires := time.Now().Add(8*time.Second - leeway) // a busy machine needs some of it to sign in
	seen, watch := watchEvents(client.EventControlLost, client.EventSentOff)
	a := w.client(w.behind("a", natlab.PortRestricted()), "a", watch, func(c *client.Config) {
		c.URL = w.URLWith(token.Claims{Group: "*", Name: "*", Expires: expires}, w.Pin())
	})
	waiting := waiters(t, a)
	w.Stop()
	<-seen[client.EventControlLost]
	<-time.After(time.Until(expires.Add(leeway + time.Second))) // exp has whole seconds
	w.Start()
	for range cap(waiting) {
		if err := <-waiting; client.ReasonOf(err) != protocol.ReasonUnauthorized {
			t.Errorf("a call that waited: %v, want unauthorized", err)
		}
	}
	<-seen[client.EventSentOff]
	ctx := within(t, 10*time.Second)
	if _, err := a.Connect(ctx, "b"); client.ReasonOf(err) != protocol.ReasonUnauthorized {
		t.Errorf("a later Connect: %v", err)
	}
	if err := a.Resume(ctx); client.ReasonOf(err) != protocol.ReasonUnauthorized {
		t.Errorf("Resume: %v", err)
	}
	if s := a.Status(); client.ReasonOf(s.SentOff) != protocol.ReasonUnauthorized {
		t.Errorf("status %+v", s)
	}
}

func TestAClientThatBreaksTheProtocolStaysAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	seen, watch := watchEvents(client.EventSentOff)
	a := w.client(w.behind("a", natlab.PortRestricted()), "a", watch)
	client.BreakProtocol(a)
	if e := <-seen[client.EventSentOff]; !errors.Is(e.Err, client.ErrProtocol) {
		t.Errorf("%v", e.Err)
	}
	ctx := within(t, 10*time.Second)
	if _, err := a.Connect(ctx, "b"); !errors.Is(err, client.ErrProtocol) {
		t.Errorf("Connect: %v", err)
	}
	must(t, a.Resume(ctx))
}
