package natlab_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/bradawl/bradawl/internal/natlab"
)

func newLab6(t testing.TB) *natlab.Lab {
	t.Helper()
	l := newLab(t)
	natlab.RequireIPv6(t, l)
	return l
}

func addHostWith(t testing.TB, l *natlab.Lab, name string, f natlab.Families) *natlab.Host {
	t.Helper()
	h, err := l.AddHostWith(name, f)
	check(t, err)
	return h
}

// listen6 opens a socket at the host's IPv6 address.
func listen6(t testing.TB, h *natlab.Host) *endpoint {
	t.Helper()
	conn, err := h.ListenUDP(netip.AddrPortFrom(h.Addr6(), 0))
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &endpoint{t, conn, conn.LocalAddr().(*net.UDPAddr).AddrPort()}
}

func TestIPv6IsRoutedWithoutNAT(t *testing.T) {
	for _, families := range []natlab.Families{natlab.DualStack, natlab.IPv6Only} {
		for name, link := range map[string]natlab.Link{"kernel": {}, "forwarder": {Delay: time.Millisecond}} {
			t.Run(fmt.Sprint(families, " by the ", name), func(t *testing.T) {
				t.Parallel()
				l := newLab6(t)
				site := addSite(t, l, natlab.SiteConfig{NAT: natlab.PortRestricted(), Families: families, Link: link})
				h := addHost(t, site, "a")
				if !site.Prefix6().Contains(h.Addr6()) || site.Prefix6().Bits() != 64 {
					t.Errorf("the host has %s, the site %s", h.Addr6(), site.Prefix6())
				}
				for _, public := range []*natlab.Host{addHostWith(t, l, "public", natlab.DualStack), l.Self()} {
					p, e := listen6(t, public), listen6(t, h)
					if at := e.observe(p); at != e.addr {
						t.Errorf("%s sees %s, want the host's own %s", public.Name(), at, e.addr)
					}
					p.send(e.addr, "answer")
					if from, what := e.receive(); what != "answer" || from != p.addr {
						t.Errorf("received %q from %s", what, from)
					}
				}
				_, err := h.ListenUDP(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 1, 1}), 0))
				if err == nil {
					t.Error("the host has an address that was never given to it")
				}
				if got := h.Addr().Is4(); got != (families == natlab.DualStack) {
					t.Errorf("address %s with %s", h.Addr(), families)
				}
			})
		}
	}
}

func TestIPv6FirewallKeepsStrangersOutUnlessOpen(t *testing.T) {
	for _, open := range []bool{false, true} {
		t.Run(fmt.Sprint("open ", open), func(t *testing.T) {
			t.Parallel()
			l := newLab6(t)
			site := addSite(t, l, natlab.SiteConfig{NAT: natlab.PortRestricted(), Families: natlab.DualStack, OpenIPv6: open})
			e := listen6(t, addHost(t, site, "a"))
			friend, stranger := listen6(t, addHostWith(t, l, "friend", natlab.IPv6Only)), listen6(t, addHostWith(t, l, "stranger", natlab.DualStack))
			e.observe(friend)
			stranger.send(e.addr, "stranger")
			friend.send(e.addr, "friend")
			got := e.until("friend")
			if _, came := got["stranger"]; came != open {
				t.Errorf("received %v; want the stranger's packet: %v", got, open)
			}
			c, err := site.Counters()
			check(t, err)
			if want := map[bool]uint64{false: 1}[open]; c.UnsolicitedPackets != want {
				t.Errorf("counters %+v, want %d unsolicited packets", c, want)
			}
		})
	}
}

// Two hosts that send to one another open both firewalls.
func TestPunchThroughIPv6Firewalls(t *testing.T) {
	l := newLab6(t)
	var e [2]*endpoint
	for i := range e {
		site := addSite(t, l, natlab.SiteConfig{NAT: natlab.PortRestricted(), Families: natlab.IPv6Only})
		e[i] = listen6(t, addHost(t, site, "a"))
	}
	e[0].send(e[1].addr, "dies at the firewall")
	e[1].send(e[0].addr, "through")
	if from, what := e[0].receive(); what != "through" || from != e[1].addr {
		t.Errorf("received %q from %s", what, from)
	}
	e[0].send(e[1].addr, "answer")
	if from, what := e[1].receive(); what != "answer" || from != e[0].addr {
		t.Errorf("received %q from %s", what, from)
	}
}

func TestNeighboursReachOneAnotherByIPv6(t *testing.T) {
	l := newLab6(t)
	site := addSite(t, l, natlab.SiteConfig{NAT: natlab.PortRestricted(), Families: natlab.DualStack})
	a, b := listen6(t, addHost(t, site, "a")), listen6(t, addHost(t, site, "b"))
	a.send(b.addr, "neighbour")
	if from, what := b.receive(); what != "neighbour" || from != a.addr {
		t.Errorf("received %q from %s", what, from)
	}
}

func TestDualStackSocketServesBothFamilies(t *testing.T) {
	l := newLab6(t)
	conn, err := addHostWith(t, l, "public", natlab.DualStack).ListenUDP(netip.AddrPortFrom(netip.IPv6Unspecified(), 0))
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	port := conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	p := &endpoint{t, conn, netip.AddrPort{}}
	site := addSite(t, l, natlab.SiteConfig{NAT: natlab.PortRestricted(), Families: natlab.DualStack})
	h := addHost(t, site, "a")
	public, err := l.AddHostWith("another", natlab.DualStack)
	check(t, err)
	if public.Addr() == public.Addr6() {
		t.Error("one address for both families")
	}
	for _, e := range []*endpoint{listen(t, h), listen6(t, h)} {
		to := netip.AddrPortFrom(dualAddr(t, l, e.addr.Addr().Is4()), port)
		e.send(to, "to both")
		from, what := p.receive()
		if what != "to both" || from.Addr().Is4() != e.addr.Addr().Is4() {
			t.Errorf("received %q from %s, sent by %s to %s", what, from, e.addr, to)
		}
		p.send(from, "back")
		if from, _ := e.receive(); from != to {
			t.Errorf("the answer comes from %s, want %s", from, to)
		}
	}
}

// dualAddr returns the address of the lab's first public host.
func dualAddr(t testing.TB, l *natlab.Lab, v4 bool) netip.Addr {
	t.Helper()
	if v4 {
		return l.Self().Addr().Next()
	}
	return l.Self().Addr6().Next()
}

func TestCutIPv6LeavesIPv4(t *testing.T) {
	l := newLab6(t)
	site := addSite(t, l, natlab.SiteConfig{NAT: natlab.PortRestricted(), Families: natlab.DualStack})
	h, public := addHost(t, site, "a"), addHostWith(t, l, "public", natlab.DualStack)
	e4, e6, p4, p6 := listen(t, h), listen6(t, h), listen(t, public), listen6(t, public)
	check(t, site.CutIPv6())
	e6.send(p6.addr, "swallowed")
	e4.observe(p4)
	check(t, site.CutUplink())
	check(t, site.HealIPv6())
	e6.send(p6.addr, "healed")
	if _, what := p6.receive(); what != "healed" {
		t.Errorf("received %q over an uplink that was cut", what)
	}
	e4.send(p4.addr, "swallowed")
	check(t, site.HealUplink())
	e4.send(p4.addr, "healed")
	if _, what := p4.receive(); what != "healed" {
		t.Errorf("received %q over an uplink that was cut", what)
	}
}

func TestBlockedUDPIsBlockedInBothFamilies(t *testing.T) {
	l := newLab6(t)
	site := addSite(t, l, natlab.SiteConfig{NAT: natlab.UDPBlocked(), Families: natlab.DualStack})
	h, public := addHost(t, site, "a"), addHostWith(t, l, "public", natlab.DualStack)
	e, p := listen6(t, h), listen6(t, public)
	e.send(p.addr, "blocked")
	listen6(t, l.Self()).send(p.addr, "passes")
	if _, what := p.receive(); what != "passes" {
		t.Errorf("received %q through a site that blocks UDP", what)
	}
	ln, err := public.Listen("tcp", net.JoinHostPort(public.Addr6().String(), "0"))
	check(t, err)
	defer func() { _ = ln.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := h.DialContext(ctx, "tcp", ln.Addr().String())
	check(t, err)
	_ = conn.Close()
}

// A router whose link is too narrow says so, and the sender believes it (RFC 8201).
func TestIPv6PathMTUIsDiscovered(t *testing.T) {
	l := newLab6(t)
	site := addSite(t, l, natlab.SiteConfig{NAT: natlab.PortRestricted(), Families: natlab.IPv6Only, Link: natlab.Link{MTU: 1280}})
	e, p := listen6(t, addHost(t, site, "a")), listen6(t, addHostWith(t, l, "public", natlab.IPv6Only))
	e.observe(p)
	full := bytes.Repeat([]byte("x"), 1280-48)
	_, err := e.conn.WriteToUDPAddrPort(full, p.addr)
	check(t, err)
	if _, what := p.receive(); len(what) != len(full) {
		t.Errorf("%d bytes came", len(what))
	}
}

func TestLabWithoutIPv6SaysSo(t *testing.T) {
	l := newLab(t)
	if err := l.IPv6(); err != nil && !errors.Is(err, natlab.ErrNoIPv6) {
		t.Errorf("%v does not wrap ErrNoIPv6", err)
	}
	if _, err := l.AddHostWith("a", 9); err == nil {
		t.Error("a host with unknown families was added")
	}
	_, err := l.AddHostWith("a", natlab.DualStack)
	if (err == nil) != (l.IPv6() == nil) {
		t.Errorf("IPv6 is %v, but adding a host gave %v", l.IPv6(), err)
	}
}
