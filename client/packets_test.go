package client

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/bradawl/bradawl/internal/clocksync"
	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
)

// FuzzPacket feeds packets to a client with one session under way.
func FuzzPacket(f *testing.F) {
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		f.Fatal(err)
	}
	id, err := identity.New()
	if err != nil {
		f.Fatal(err)
	}
	self := boundTo(pc)
	c := &Client{sessions: newSessions(), clock: clocksync.New(0), identity: id, transport: &quic.Transport{Conn: pc},
		cfg: settings{Config: Config{Name: "a"}}}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	f.Cleanup(func() {
		c.cancel(nil)
		_ = c.transport.Close()
		_ = pc.Close()
	})
	o, err := parseOrder(goodOrder())
	if err != nil {
		f.Fatal(err)
	}
	o.giveUp = time.Hour
	o.dialler = false
	s := &session{c: c, id: o.id, peer: o.peer}
	a := c.newAttempt(s, o, time.Now())
	c.sessions.start(s, a, a.p.addrs())
	c.sessions.sent([12]byte{9}, a)

	add := func(b []byte, err error) {
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	add(protocol.AppendInit(nil, [12]byte{1}, o.id, "b", o.key))
	add(protocol.AppendInit(nil, [12]byte{2}, o.id, "a", o.key)) // our own, sent back
	add(protocol.AppendInit(nil, [12]byte{3}, o.id, "b", protocol.SessionKey{7}))
	add(protocol.AppendBindingResponse(nil, [12]byte{9}, self, &o.key))
	add(protocol.AppendBindingRequest(nil, [12]byte{4}), nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		c.packet(time.Now(), b, netip.AddrPortFrom(self.Addr(), 9), c.transport)
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.p.paths) > 1+protocol.MaxPeerReflexive || len(a.p.seen) > maxSeen {
			t.Errorf("%d paths, %d INITs kept", len(a.p.paths), len(a.p.seen))
		}
	})
}

func TestOwnINITSentBackIsNotTaken(t *testing.T) {
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{sessions: newSessions(), transport: &quic.Transport{Conn: pc}, cfg: settings{Config: Config{Name: "a"}}, ctx: t.Context(), clock: clocksync.New(0)}
	defer func() {
		_ = c.transport.Close()
		_ = pc.Close()
	}()
	if c.identity, err = identity.New(); err != nil {
		t.Fatal(err)
	}
	o, err := parseOrder(goodOrder())
	if err != nil {
		t.Fatal(err)
	}
	s := &session{c: c, id: o.id, peer: o.peer}
	a := c.newAttempt(s, o, time.Now())
	defer a.cancel(nil)
	c.sessions.start(s, a, a.p.addrs())
	for name, want := range map[string]uint32{"a": 0, "x": 0, "b": 1} {
		b, err := protocol.AppendInit(nil, [12]byte{name[0]}, o.id, name, o.key)
		if err != nil {
			t.Fatal(err)
		}
		before := a.p.initsIn
		a.dialler = false // so that nothing is dialled
		a.p.dialler = false
		c.packet(time.Now(), b, netip.AddrPortFrom(boundTo(pc).Addr(), 9), c.transport)
		if got := a.p.initsIn - before; got != want {
			t.Errorf("an INIT from %q counted %d times, want %d", name, got, want)
		}
	}
}
