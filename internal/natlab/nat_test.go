package natlab_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/bradawl/bradawl/internal/natlab"
)

func TestUDPBlockedLetsOnlyTCPThrough(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	public := addHost(t, l, "public")
	site := addSite(t, l, natlab.SiteConfig{NAT: natlab.UDPBlocked()})
	h := addHost(t, site, "a")
	e, p, self := listen(t, h), listen(t, public), listen(t, l.Self())
	e.send(p.addr, "blocked")
	self.send(p.addr, "passes")
	if _, what := p.receive(); what != "passes" {
		t.Errorf("received %q through a site that blocks UDP", what)
	}
	if c, err := site.Counters(); err != nil || c.BlockedPackets != 1 {
		t.Errorf("counters %+v, %v; want one blocked packet", c, err)
	}

	ln, err := public.Listen("tcp", net.JoinHostPort(public.Addr().String(), "0"))
	check(t, err)
	defer func() { _ = ln.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := h.DialContext(ctx, "tcp", ln.Addr().String())
	check(t, err)
	defer func() { _ = conn.Close() }()
	inbound, err := ln.Accept()
	check(t, err)
	defer func() { _ = inbound.Close() }()
	if got := netip.MustParseAddrPort(inbound.RemoteAddr().String()).Addr(); got != site.PublicAddr() {
		t.Errorf("TCP comes from %s, want %s", got, site.PublicAddr())
	}
}

// An early packet from the peer takes the port of a NAT that does not drop it.
func TestEarlyPacketSpoilsMappingOnlyWithoutDrop(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		nat     natlab.NAT
		spoiled bool
	}{
		"drop":               {natlab.PortRestricted(), false},
		"no drop":            {natlab.PortRestrictedNoDrop(), true},
		"full cone":          {natlab.FullCone(), false},
		"address-restricted": {natlab.AddressRestricted(), false},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			site := addSite(t, l, natlab.SiteConfig{NAT: test.nat})
			server, peer := listen(t, addHost(t, l, "server")), listen(t, addHost(t, l, "peer"))
			e := listen(t, addHost(t, site, "a"))
			early := netip.AddrPortFrom(site.PublicAddr(), e.addr.Port())
			peer.send(early, "too early")
			atServer, atPeer := e.observe(server), e.observe(peer)
			if atServer != early {
				t.Errorf("the server sees %s, want %s", atServer, early)
			}
			if (atPeer != atServer) != test.spoiled {
				t.Errorf("the server sees %s, the peer %s; want them to differ: %v", atServer, atPeer, test.spoiled)
			}
			if c, err := site.Counters(); err != nil || c.UnsolicitedPackets != 1 {
				t.Errorf("counters %+v, %v; want one unsolicited packet", c, err)
			}
		})
	}
}

func TestHostsShareOnePublicAddress(t *testing.T) {
	t.Parallel()
	for name, nat := range map[string]natlab.NAT{
		"full cone": natlab.FullCone(), "port-restricted": natlab.PortRestricted(), "symmetric": natlab.Symmetric(),
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			site := addSite(t, l, natlab.SiteConfig{NAT: nat})
			p := listen(t, addHost(t, l, "public"))
			seen := make(map[netip.AddrPort]*endpoint)
			for _, name := range []string{"a", "b", "c"} {
				e := listenOn(t, addHost(t, site, name), 5000) // all the same port
				from := e.observe(p)
				if from.Addr() != site.PublicAddr() {
					t.Errorf("%s comes from %s, want %s", name, from, site.PublicAddr())
				}
				seen[from] = e
			}
			if len(seen) != 3 {
				t.Fatalf("three hosts have %d external ports towards one destination", len(seen))
			}
			for mapped, e := range seen {
				p.send(mapped, mapped.String())
				if _, what := e.receive(); what != mapped.String() {
					t.Errorf("%s got the answer for %s", mapped, what)
				}
			}
			a, b := addHost(t, site, "d"), addHost(t, site, "e")
			ea, eb := listen(t, a), listen(t, b)
			ea.send(eb.addr, "neighbour")
			if from, _ := eb.receive(); from != ea.addr {
				t.Errorf("a neighbour comes from %s, want its private address %s", from, ea.addr)
			}
		})
	}
}

// A NAT that filters independently of the endpoint can give one external port to
// one internal endpoint only, whatever the destinations.
func TestFullConeDoesNotOverloadPorts(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	site := addSite(t, l, natlab.SiteConfig{NAT: natlab.FullCone()})
	p, q := listen(t, addHost(t, l, "p")), listen(t, addHost(t, l, "q"))
	a := listenOn(t, addHost(t, site, "a"), 5000)
	b := listenOn(t, addHost(t, site, "b"), 5000)
	if ma, mb := a.observe(p), b.observe(q); ma == mb {
		t.Errorf("both endpoints have the external address %s", ma)
	}
}

func TestMappingsEnd(t *testing.T) {
	const timeout = 2 * time.Second
	for name, nat := range map[string]natlab.NAT{
		"full cone": natlab.FullCone(), "address-restricted": natlab.AddressRestricted(), "port-restricted": natlab.PortRestricted(),
	} {
		for how, end := range map[string]func(*testing.T, *natlab.Site){
			"by flush":   func(t *testing.T, s *natlab.Site) { check(t, s.FlushMappings()) },
			"by timeout": func(t *testing.T, s *natlab.Site) { awaitForgotten(t, s, timeout) },
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				l := newLab(t)
				limited := nat
				limited.MappingTimeout = timeout
				site := addSite(t, l, natlab.SiteConfig{NAT: limited})
				p, e := listen(t, addHost(t, l, "public")), listen(t, addHost(t, site, "a"))
				mapped := e.observe(p)
				p.send(mapped, "in time")
				if _, what := e.receive(); what != "in time" {
					t.Fatalf("received %q", what)
				}
				end(t, site)
				p.send(mapped, "too late")
				p.send(e.observe(p), "last")
				if got := e.until("last"); len(got) > 0 {
					t.Errorf("received %v by a mapping that had ended", got)
				}
			})
		}
	}
}

// awaitForgotten waits until the router remembers nothing, without sending anything.
func awaitForgotten(t *testing.T, s *natlab.Site, after time.Duration) {
	t.Helper()
	start := time.Now()
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
		n, err := natlab.Remembered(s)
		check(t, err)
		took := time.Since(start)
		if n == 0 {
			if took < after/2 {
				t.Errorf("forgotten after %v, want about %v", took, after)
			}
			return
		}
		if took > patience {
			t.Fatalf("the router still remembers %d flows after %v", n, took)
		}
	}
}

func TestCutUplinkSwallowsPacketsUntilHealed(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	site := addSite(t, l, natlab.SiteConfig{NAT: natlab.PortRestricted()})
	p, e := listen(t, addHost(t, l, "public")), listen(t, addHost(t, site, "a"))
	self, neighbour := listen(t, l.Self()), listen(t, addHost(t, site, "b"))
	mapped := e.observe(p)

	check(t, site.CutUplink())
	check(t, site.CutUplink())
	e.send(p.addr, "cut")
	p.send(mapped, "cut")
	self.send(p.addr, "last")
	neighbour.send(e.addr, "last")
	if got := p.until("last"); len(got) > 0 {
		t.Errorf("the cut let %v out", got)
	}
	if got := e.until("last"); len(got) > 0 {
		t.Errorf("the cut let %v in", got)
	}

	check(t, site.HealUplink())
	if again := e.observe(p); again != mapped {
		t.Errorf("mapped to %s after the cut, to %s before", again, mapped)
	}
	p.send(mapped, "healed")
	if _, what := e.receive(); what != "healed" {
		t.Errorf("received %q", what)
	}
}

func TestInvalidConfigurationsAreRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for name, cfg := range map[string]natlab.SiteConfig{
		"mapping":             {NAT: natlab.NAT{Mapping: 3}},
		"filtering":           {NAT: natlab.NAT{Filtering: 3}},
		"ports":               {NAT: natlab.NAT{Ports: 3}},
		"sequential ports":    {NAT: natlab.NAT{Ports: natlab.SequentialPorts}},
		"timeout":             {NAT: natlab.NAT{MappingTimeout: -1}},
		"address-dependent":   {NAT: natlab.NAT{Mapping: natlab.AddressDependentMapping}},
		"negative delay":      {Link: natlab.Link{Delay: -1}},
		"loss":                {Link: natlab.Link{Loss: 1.1}},
		"reorder":             {Link: natlab.Link{Reorder: -0.1}},
		"MTU":                 {Link: natlab.Link{MTU: 100}},
		"queue":               {Link: natlab.Link{Queue: -1}},
		"private prefix size": {Private: netip.MustParsePrefix("10.0.0.0/31")},
		"private prefix IPv6": {Private: netip.MustParsePrefix("fd00::/64")},
	} {
		if s, err := l.AddSite(cfg); err == nil {
			t.Errorf("%s: %+v was accepted", name, cfg)
			check(t, s.Close())
		}
	}
}

func TestClosedLabRefuses(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	site, h := addSite(t, l, natlab.SiteConfig{}), addHost(t, l, "a")
	check(t, l.Close())
	for what, err := range map[string]error{
		"AddHost":       second(l.AddHost("b")),
		"AddSite":       second(l.AddSite(natlab.SiteConfig{})),
		"Site.AddHost":  second(site.AddHost("b")),
		"ListenUDP":     second(h.ListenUDP(netip.AddrPort{})),
		"FlushMappings": site.FlushMappings(),
		"CutUplink":     site.CutUplink(),
		"Start":         h.Start(exec.Command("/proc/self/exe")),
	} {
		if !errors.Is(err, natlab.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestSequentialPortsFollowOneAnother(t *testing.T) {
	l := newLab(t)
	site := addSite(t, l, natlab.SiteConfig{NAT: natlab.SequentialSymmetric()})
	public := addHost(t, l, "public")
	one, two := listen(t, public), listen(t, public)
	a := addHost(t, site, "a")
	e, f := listen(t, a), listen(t, a)
	first := e.observe(one).Port()
	for i, got := range []uint16{e.observe(two).Port(), f.observe(one).Port(), f.observe(two).Port()} {
		if want := first + uint16(i) + 1; got != want {
			t.Errorf("mapping %d is at port %d, want %d", i+1, got, want)
		}
	}
	if again := e.observe(one).Port(); again != first {
		t.Errorf("a mapping has moved from port %d to %d", first, again)
	}
}

// Homes often have the same private addresses.
func TestSitesMayShareAPrivatePrefix(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	prefix := netip.MustParsePrefix("192.168.1.0/24")
	p := listen(t, addHost(t, l, "public"))
	var seen []netip.AddrPort
	for _, name := range []string{"one", "two"} {
		site := addSite(t, l, natlab.SiteConfig{Name: name, Private: prefix})
		e := listenOn(t, addHost(t, site, "a"), 5000)
		if !prefix.Contains(e.addr.Addr()) {
			t.Errorf("the host has %s, want one of %s", e.addr, prefix)
		}
		seen = append(seen, e.observe(p))
	}
	if seen[0] == seen[1] {
		t.Errorf("both sites are seen as %s", seen[0])
	}
}
