package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/protocol"
)

// soon has a lost link noticed within two seconds, patient within five: on a busy machine less is a loss that is none.
func soon(c *client.Config)    { c.KeepAlive = 800 * time.Millisecond }
func patient(c *client.Config) { c.KeepAlive = 2 * time.Second }

// movingPorts is a port-restricted NAT that draws a port for each mapping: after a flush the peer has another address.
func movingPorts() natlab.NAT {
	n := natlab.PortRestricted()
	n.Ports = natlab.RandomPorts
	return n
}

// linked is a pair of peers in a mesh, each behind a NAT of its own.
type linked struct {
	w              *world
	siteA, siteB   *natlab.Site
	a, b           *client.Client
	groupA, groupB *client.Group
	connA, connB   *client.Conn
}

func newLinked(t *testing.T, a, b natlab.NAT, tune ...func(*client.Config)) *linked {
	t.Helper()
	t.Parallel()
	l := &linked{w: newWorld(t)}
	tune = append([]func(*client.Config){soon}, tune...)
	sign := func(name string, nat natlab.NAT) (*natlab.Site, *client.Client, *client.Group) {
		site := l.w.site(name, nat)
		h, err := site.AddHost(name)
		must(t, err)
		c := l.w.client(h, name, tune...)
		g, err := c.Mesh(within(t, time.Minute), "all", 2)
		must(t, err)
		return site, c, g
	}
	l.siteA, l.a, l.groupA = sign("a", a)
	l.siteB, l.b, l.groupB = sign("b", b)
	l.connA, l.connB = collect(t, l.groupA, 1)["b"], collect(t, l.groupB, 1)["a"]
	return l
}

// relinked checks that each side has lost its connection in a typed way and got another one in its place.
func (l *linked) relinked(t *testing.T) {
	t.Helper()
	for _, side := range []struct {
		conn *client.Conn
		g    *client.Group
		peer string
	}{{l.connA, l.groupA, "b"}, {l.connB, l.groupB, "a"}} {
		isLost(t, side.conn)
		now := collect(t, side.g, 1)[side.peer]
		if now == nil || now.Info().Replaces != side.conn.Info().SessionID {
			t.Fatalf("the new connection replaces %v, not %v", now.Info().Replaces, side.conn.Info().SessionID)
		}
		go echoStreams(now)
		defer roundTrip(t, now, 10_000)
		r := side.g.Report()
		if r.Up != 1 || len(r.Pairs) != 1 || r.Pairs[0].Lost != 1 || r.Pairs[0].Session != now.Info().SessionID {
			t.Errorf("report %+v", r)
		}
	}
}

// isLost waits until conn has ended because its path is gone.
func isLost(t *testing.T, conn *client.Conn) {
	t.Helper()
	select {
	case <-conn.Context().Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the loss is not noticed")
	}
	if err := context.Cause(conn.Context()); !errors.Is(err, client.ErrLinkLost) || client.ReasonOf(err) != protocol.ReasonNoInbound {
		t.Errorf("the connection ended with %v", err)
	}
}

// stays checks that both ends of a connection live on for some keep-alive intervals and carry data.
func (l *linked) stays(t *testing.T) {
	t.Helper()
	go echoStreams(l.connB)
	go echoStreams(l.connA)
	roundTrip(t, l.connA, 1000)
	roundTrip(t, l.connB, 1000)
	over := time.After(7 * time.Second)
	for _, c := range []*client.Conn{l.connA, l.connB} {
		select {
		case <-c.Context().Done():
			t.Fatalf("the connection has ended: %v", context.Cause(c.Context()))
		case <-over:
			over = closedTime()
		}
	}
	roundTrip(t, l.connA, 1000)
}

func closedTime() <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}

func TestLinkIsMadeAnewWhenBothNATsMapAnew(t *testing.T) {
	l := newLinked(t, movingPorts(), movingPorts())
	s, err := l.connA.DialStream(within(t, 5*time.Second))
	must(t, err)
	_, err = s.Write([]byte("not the end"))
	must(t, err)
	must(t, l.siteA.FlushMappings())
	must(t, l.siteB.FlushMappings())
	_, err = io.ReadAll(s)
	if op, ok := errors.AsType[*net.OpError](err); !ok || !errors.Is(op, client.ErrLinkLost) {
		t.Errorf("the stream ended with %v", err)
	}
	l.relinked(t)
}

func TestLinkSurvivesNATsThatKeepTheirPorts(t *testing.T) {
	for name, flush := range map[string]func(*linked) error{
		"one":   func(l *linked) error { return l.siteA.FlushMappings() },
		"other": func(l *linked) error { return l.siteB.FlushMappings() },
		"both":  func(l *linked) error { return errors.Join(l.siteA.FlushMappings(), l.siteB.FlushMappings()) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLinked(t, natlab.PortRestricted(), natlab.PortRestricted(), patient)
			must(t, flush(l))
			l.stays(t)
		})
	}
}

func TestLinkFollowsADiallerWhoseNATMapsAnew(t *testing.T) {
	open := natlab.FullCone()
	open.Ports = natlab.RandomPorts
	l := newLinked(t, open, open, patient)
	dialler, listening := l.siteA, l.connB
	if !l.connA.Info().Dialler {
		dialler, listening = l.siteB, l.connA
	}
	before := listening.QUIC().RemoteAddr().String()
	must(t, dialler.FlushMappings())
	l.stays(t)
	if now := listening.QUIC().RemoteAddr().String(); now == before {
		t.Errorf("the dialler's address is %s as before", now)
	}
}

func TestLinkIsMadeAnewWhenTheListenersNATMapsAnew(t *testing.T) {
	l := newLinked(t, movingPorts(), movingPorts())
	listener := l.siteB
	if l.connB.Info().Dialler {
		listener = l.siteA
	}
	must(t, listener.FlushMappings())
	l.relinked(t)
}

func TestLinkIsMadeAnewAfterACutUplink(t *testing.T) {
	l := newLinked(t, natlab.PortRestricted(), natlab.PortRestricted())
	must(t, l.siteB.CutUplink())
	isLost(t, l.connA)
	isLost(t, l.connB)
	must(t, l.siteB.HealUplink())
	ctx := within(t, 30*time.Second)
	for _, g := range []*client.Group{l.groupA, l.groupB} {
		for {
			link, err := g.Next(ctx)
			must(t, err)
			if link.Err == nil { // a's first try may have failed while b was away
				must(t, link.Conn.Proven(ctx))
				break
			}
			t.Log(link.Err)
		}
	}
}

func TestRestartedPeerIsLinkedAnew(t *testing.T) {
	l := newLinked(t, natlab.PortRestricted(), natlab.PortRestricted())
	must(t, l.siteB.CutUplink()) // as a crash: no goodbye
	isLost(t, l.connA)
	h := l.w.behind("b again", natlab.PortRestricted())
	ctx := within(t, 30*time.Second)
	var again *client.Client
	for again == nil { // the rendezvous holds the name until it misses the old one
		c, err := client.SignIn(ctx, l.w.config(h, "b"))
		if err != nil && client.ReasonOf(err) != protocol.ReasonUnauthorized {
			t.Fatal(err)
		}
		again = c
	}
	defer again.Close()
	g, err := again.Mesh(ctx, "all", 2)
	must(t, err)
	collect(t, g, 1)
	for {
		link, err := l.groupA.Next(ctx)
		must(t, err)
		if link.Err != nil {
			continue
		}
		if link.Peer.Fingerprint != again.Self().Fingerprint || link.Conn.Info().Replaces != (protocol.SessionID{}) {
			t.Errorf("a is linked to %v, which replaces %v", link.Peer, link.Conn.Info().Replaces)
		}
		break
	}
}

func TestReconnectReplacesAConnectionOnBothSides(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	site := w.site("a", movingPorts())
	h, err := site.AddHost("a")
	must(t, err)
	events := make(chan client.Event, 1000)
	a := w.client(h, "a", soon, func(c *client.Config) { c.OnEvent = func(e client.Event) { events <- e } })
	b := w.client(w.behind("b", movingPorts()), "b", soon)
	ctx := within(t, 30*time.Second)
	connA, err := a.Connect(ctx, "b")
	must(t, err)
	connB, err := b.Accept(ctx)
	must(t, err)
	must(t, connA.Proven(ctx))
	must(t, connB.Proven(ctx))
	must(t, site.FlushMappings())
	again, err := a.Reconnect(ctx, connA)
	must(t, err)
	isLost(t, connA)
	isLost(t, connB)
	there, err := b.Accept(ctx)
	must(t, err)
	old := connA.Info().SessionID
	if again.Info().Replaces != old || there.Info().Replaces != old {
		t.Errorf("%v and %v replace %v", again.Info().Replaces, there.Info().Replaces, old)
	}
	go echoStreams(there)
	roundTrip(t, again, 1000)
	for told := false; !told; {
		select {
		case e := <-events:
			told = e.Kind == client.EventRelinking && e.Session == old && e.Peer == "b"
		default:
			t.Fatal("no event says so")
		}
	}
	if _, err := b.Reconnect(ctx, again); err == nil {
		t.Error("reconnected another client's connection")
	}
}
