package natlab_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/bradawl/bradawl/internal/natlab"
)

// classifier finds out what a NAT does, from inside and with plain sockets, as RFC 4787
// and RFC 5780 describe it. It has public endpoints at two addresses, with two ports at the first.
type classifier struct {
	t                   *testing.T
	here, port, address *endpoint // address and port; other port; other address
}

func newClassifier(t *testing.T, l *natlab.Lab) *classifier {
	t.Helper()
	one, two := addHost(t, l, "public 1"), addHost(t, l, "public 2")
	return &classifier{t, listen(t, one), listen(t, one), listen(t, two)}
}

func (c *classifier) mapping(h *natlab.Host) natlab.Mapping {
	c.t.Helper()
	e := listen(c.t, h)
	here, port, address := e.observe(c.here), e.observe(c.port), e.observe(c.address)
	switch {
	case here == port && here == address:
		return natlab.EndpointIndependentMapping
	case here == port:
		return natlab.AddressDependentMapping
	}
	return natlab.AddressAndPortDependentMapping
}

func (c *classifier) filtering(h *natlab.Host) natlab.Filtering {
	c.t.Helper()
	e := listen(c.t, h)
	mapped := e.observe(c.here)
	got := make(map[string]netip.AddrPort)
	for round := range 3 { // packets sent one after the other rarely overtake; three rounds never do
		last := fmt.Sprint("last ", round)
		c.port.send(mapped, "other port")
		c.address.send(mapped, "other address")
		c.here.send(mapped, last)
		for what, from := range e.until(last) {
			got[what] = from
		}
	}
	switch {
	case got["other address"].IsValid():
		return natlab.EndpointIndependentFiltering
	case got["other port"].IsValid():
		return natlab.AddressDependentFiltering
	}
	return natlab.AddressAndPortDependentFiltering
}

func (c *classifier) preservesPorts(h *natlab.Host) bool {
	c.t.Helper()
	for range 3 { // by chance a random port is the same, but not three times
		e := listen(c.t, h)
		if e.observe(c.here).Port() != e.addr.Port() {
			return false
		}
	}
	return true
}

// hairpins says whether two hosts reach each other by their public addresses, and see
// each other's external address then.
func (c *classifier) hairpins(a, b *natlab.Host) bool {
	c.t.Helper()
	ea, eb := listen(c.t, a), listen(c.t, b)
	ma, mb := ea.observe(c.here), eb.observe(c.here)
	for range 2 { // the first packets may only open the filters
		ea.send(mb, "from a")
		eb.send(ma, "from b")
	}
	c.here.send(ma, "last")
	c.here.send(mb, "last")
	gotA, gotB := ea.until("last"), eb.until("last")
	return gotA["from b"] == mb && gotB["from a"] == ma
}

func TestNATBehavesAsAsked(t *testing.T) {
	t.Parallel()
	with := func(n natlab.NAT, change func(*natlab.NAT)) natlab.NAT { change(&n); return n }
	hairpin := func(n *natlab.NAT) { n.Hairpinning = true }
	random := func(n *natlab.NAT) { n.Ports = natlab.RandomPorts }
	for name, nat := range map[string]natlab.NAT{
		"full cone":                     natlab.FullCone(),
		"full cone, hairpin":            with(natlab.FullCone(), hairpin),
		"full cone, random ports":       with(natlab.FullCone(), random),
		"address-restricted":            natlab.AddressRestricted(),
		"address-restricted, hairpin":   with(natlab.AddressRestricted(), hairpin),
		"port-restricted":               natlab.PortRestricted(),
		"port-restricted, hairpin":      with(natlab.PortRestricted(), hairpin),
		"port-restricted, random ports": with(natlab.PortRestricted(), random),
		"port-restricted, no drop":      natlab.PortRestrictedNoDrop(),
		"symmetric":                     natlab.Symmetric(),
		"symmetric, sequential ports":   natlab.SequentialSymmetric(),
		"symmetric, open filter": with(natlab.Symmetric(), func(n *natlab.NAT) {
			n.Filtering, n.Hairpinning = natlab.EndpointIndependentFiltering, false
		}),
		"address-dependent mapping": with(natlab.PortRestricted(), func(n *natlab.NAT) {
			n.Mapping, n.Ports = natlab.AddressDependentMapping, natlab.RandomPorts
		}),
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			c := newClassifier(t, l)
			site := addSite(t, l, natlab.SiteConfig{Name: name, NAT: nat})
			a, b := addHost(t, site, "a"), addHost(t, site, "b")
			t.Log(nat)
			if got := c.mapping(a); got != nat.Mapping {
				t.Errorf("%s, want %s", got, nat.Mapping)
			}
			if got := c.filtering(a); got != nat.Filtering {
				t.Errorf("%s, want %s", got, nat.Filtering)
			}
			if got, want := c.preservesPorts(a), nat.Ports == natlab.PortPreservation; got != want {
				t.Errorf("preserves ports: %v, want %v", got, want)
			}
			if got := c.hairpins(a, b); got != nat.Hairpinning {
				t.Errorf("hairpins: %v, want %v", got, nat.Hairpinning)
			}
		})
	}
}
