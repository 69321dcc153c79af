package client_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/natlab"
)

// newSurveyor is a world whose rendezvous has a second address, if two, on another host.
func newSurveyor(t *testing.T, two bool) *world {
	t.Helper()
	w := newWorld(t)
	if !two {
		return w
	}
	w.Stop()
	other, err := w.lab.AddHost("rendezvous 2")
	must(t, err)
	w.Server = startWithOther(t, w, other)
	return w
}

// survey signs in and runs the tests.
func (w *world) survey(h *natlab.Host, opts client.DiscoverOptions) client.NetReport {
	w.t.Helper()
	c := w.client(h, h.Name(), func(cfg *client.Config) {
		cfg.ListenPacket = func() (net.PacketConn, error) { return h.ListenUDP(netip.AddrPort{}) }
	})
	r, err := c.Discover(within(w.t, 60*time.Second), opts)
	must(w.t, err)
	if s := c.Status(); r.Filtering != client.FilteringUnknown && s.Filtering != r.Filtering || s.Mapping != r.Mapping {
		w.t.Errorf("the status says %s, %s", s.Mapping, s.Filtering)
	}
	must(w.t, c.Close())
	return r
}

func ask(nat natlab.NAT, change ...func(*natlab.NAT)) natlab.NAT {
	for _, f := range change {
		f(&nat)
	}
	return nat
}

func hairpins(n *natlab.NAT) { n.Hairpinning = true }
func random(n *natlab.NAT)   { n.Ports = natlab.RandomPorts }

// kinds are the NATs that the lab has.
func kinds() map[string]natlab.NAT {
	return map[string]natlab.NAT{
		"full cone":                     natlab.FullCone(),
		"full cone, hairpin":            ask(natlab.FullCone(), hairpins),
		"full cone, random ports":       ask(natlab.FullCone(), random),
		"address-restricted":            natlab.AddressRestricted(),
		"address-restricted, hairpin":   ask(natlab.AddressRestricted(), hairpins),
		"port-restricted":               natlab.PortRestricted(),
		"port-restricted, hairpin":      ask(natlab.PortRestricted(), hairpins),
		"port-restricted, random ports": ask(natlab.PortRestricted(), random),
		"port-restricted, no drop":      natlab.PortRestrictedNoDrop(),
		"symmetric":                     natlab.Symmetric(),
		"symmetric, open filter": ask(natlab.Symmetric(), func(n *natlab.NAT) {
			n.Filtering = natlab.EndpointIndependentFiltering
		}),
		"address-dependent mapping": ask(natlab.PortRestricted(), func(n *natlab.NAT) {
			n.Mapping, n.Ports = natlab.AddressDependentMapping, natlab.RandomPorts
		}),
	}
}

// expected is what discovery must find; one address cannot tell as much.
func expected(n natlab.NAT, two bool) client.NetReport {
	r := client.NetReport{
		SecondAddress: two,
		Mapping: map[natlab.Mapping]client.Mapping{
			natlab.EndpointIndependentMapping:     client.MappingEndpointIndependent,
			natlab.AddressDependentMapping:        client.MappingAddressDependent,
			natlab.AddressAndPortDependentMapping: client.MappingAddressAndPortDependent,
		}[n.Mapping],
		Filtering: map[natlab.Filtering]client.Filtering{
			natlab.EndpointIndependentFiltering:     client.FilteringEndpointIndependent,
			natlab.AddressDependentFiltering:        client.FilteringAddressDependent,
			natlab.AddressAndPortDependentFiltering: client.FilteringAddressAndPortDependent,
		}[n.Filtering],
		PortPreserved: n.Ports == natlab.PortPreservation,
		Hairpinning:   client.VerdictNo,
		PathMTU:       1500,
	}
	if n.Hairpinning {
		r.Hairpinning = client.VerdictYes
	}
	if !two && r.Mapping == client.MappingAddressDependent {
		r.Mapping = client.MappingEndpointIndependent
	}
	if !two && r.Filtering == client.FilteringEndpointIndependent {
		r.Filtering = client.FilteringAddressDependent
	}
	return r
}

// verdict is what two reports must have in common.
func verdict(r client.NetReport) string {
	return fmt.Sprint(r.Mapping, ", ", r.Filtering, ", port preserved ", r.PortPreserved, ", hairpins ", r.Hairpinning, ", MTU ", r.PathMTU, ", second address ", r.SecondAddress)
}

func TestDiscoverFindsEveryNATAsAsked(t *testing.T) {
	t.Parallel()
	for _, two := range []bool{true, false} {
		w := newSurveyor(t, two)
		for name, nat := range kinds() {
			t.Run(fmt.Sprintf("%s, second address %v", name, two), func(t *testing.T) {
				t.Parallel()
				w := *w
				w.t = t
				r := w.survey(w.behind(name, nat), client.DiscoverOptions{})
				if got, want := verdict(r), verdict(expected(nat, two)); got != want {
					t.Errorf("found %s\nwant  %s", got, want)
				}
				if len(r.Untested) != 1 || r.Untested[0].Test != client.TestLifetime {
					t.Errorf("untested: %v", r.Untested)
				}
			})
		}
	}
}

func TestDiscoverWithoutANAT(t *testing.T) {
	t.Parallel()
	w := newSurveyor(t, true)
	h, err := w.lab.AddHost("public")
	must(t, err)
	r := w.survey(h, client.DiscoverOptions{})
	if r.Mapping != client.MappingNone || r.Filtering != client.FilteringNone || r.Hairpinning != client.VerdictUnknown {
		t.Errorf("found %s", verdict(r))
	}
	if says := strings.Join(r.Explain(), "\n"); !strings.Contains(says, "Not known: hairpinning (there is no NAT)") {
		t.Errorf("says %s", says)
	}
}

func TestDiscoverWithFiveHundredthsLost(t *testing.T) {
	t.Parallel()
	w := newSurveyor(t, true)
	for _, nat := range []natlab.NAT{natlab.FullCone(), natlab.AddressRestricted(), natlab.PortRestricted()} {
		r := w.survey(w.behind(nat.String(), nat, natlab.Link{Delay: 5 * time.Millisecond, Loss: 0.05}), client.DiscoverOptions{})
		if got, want := verdict(r), verdict(expected(nat, true)); got != want {
			t.Errorf("found %s\nwant  %s", got, want)
		}
	}
}

func TestDiscoverMeasuresTheLifetimeOfAMapping(t *testing.T) {
	t.Parallel()
	w := newSurveyor(t, false)
	for _, nat := range []natlab.NAT{natlab.PortRestricted(), natlab.FullCone(), natlab.Symmetric()} {
		t.Run(nat.String(), func(t *testing.T) {
			t.Parallel()
			w := *w
			w.t = t
			const truth = 3 * time.Second
			nat.MappingTimeout = truth
			began := time.Now()
			r := w.survey(w.behind(nat.String(), nat), client.DiscoverOptions{
				Tests: []client.Test{client.TestLifetime}, LifetimeBudget: 12 * time.Second})
			l := r.Lifetime
			// The lab's clock for this ticks in up to a second.
			if l.AtLeast < truth-1500*time.Millisecond || l.Below > truth+1500*time.Millisecond || l.Below-l.AtLeast > time.Second || l.AtLeast >= l.Below {
				t.Errorf("%v, want around %v; untested %v", l, truth, r.Untested)
			}
			t.Logf("%v in %v", l, time.Since(began))
			if d := time.Since(began); d > 20*time.Second {
				t.Errorf("took %v", d)
			}
			if r.Filtering != client.FilteringUnknown && len(r.Untested) != 3 {
				t.Errorf("tests ran that were not asked for: %+v", r)
			}
		})
	}
}

func TestDiscoverSaysThatAMappingLastedAsLongAsWasTried(t *testing.T) {
	t.Parallel()
	w := newSurveyor(t, false)
	r := w.survey(w.behind("a", natlab.PortRestricted()), client.DiscoverOptions{
		Tests: []client.Test{client.TestLifetime}, LifetimeBudget: 3 * time.Second})
	if r.Lifetime != (client.Lifetime{AtLeast: 2 * time.Second}) {
		t.Errorf("%+v, untested %v", r.Lifetime, r.Untested)
	}
}

func TestDiscoverMeasuresThePathMTU(t *testing.T) {
	t.Parallel()
	w := newSurveyor(t, false)
	for _, mtu := range []int{1320, 1400, 1492} {
		r := w.survey(w.behind(fmt.Sprint(mtu), natlab.PortRestricted(), natlab.Link{MTU: mtu}), client.DiscoverOptions{
			Tests: []client.Test{client.TestPathMTU}})
		if r.PathMTU != mtu {
			t.Errorf("MTU %d, want %d; untested %v", r.PathMTU, mtu, r.Untested)
		}
	}
}

func TestDiscoverSaysWhatItCouldNotTest(t *testing.T) {
	t.Parallel()
	w := newSurveyor(t, false)
	w.Stop()
	w.Server = startWithOther(t, w, nil)
	c := w.client(w.behind("a", natlab.PortRestricted()), "a", func(c *client.Config) { c.ListenPacket = nil }) // no second port either
	r, err := c.Discover(within(t, 10*time.Second), client.DiscoverOptions{LifetimeBudget: time.Minute})
	must(t, err)
	for i, want := range client.Tests() {
		if i >= len(r.Untested) || r.Untested[i].Test != want || r.Untested[i].Why == "" {
			t.Errorf("untested %v", r.Untested)
			break
		}
	}
	if r.Mapping != client.MappingUnknown || r.Filtering != client.FilteringUnknown {
		t.Errorf("found %s", verdict(r))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Discover(ctx, client.DiscoverOptions{}); err == nil {
		t.Error("a canceled discovery succeeds")
	}
}

func TestTwoSymmetricNATsConnectWhenOneLetsEverybodyIn(t *testing.T) {
	t.Parallel()
	w := newSurveyor(t, true)
	further := func(h *natlab.Host) func(*client.Config) {
		return func(cfg *client.Config) {
			cfg.ListenPacket = func() (net.PacketConn, error) { return h.ListenUDP(netip.AddrPort{}) }
		}
	}
	shut := w.behind("shut", natlab.Symmetric())
	open := w.behind("open", ask(natlab.Symmetric(), func(n *natlab.NAT) { n.Filtering = natlab.EndpointIndependentFiltering }))
	a, b := w.client(shut, "a", further(shut)), w.client(open, "b", further(open))
	echo(t, b)
	ctx := within(t, 10*time.Second)
	for _, c := range []*client.Client{a, b} {
		_, err := c.Discover(ctx, client.DiscoverOptions{Tests: []client.Test{client.TestFiltering}})
		must(t, err)
		_, err = c.Ping(ctx)
		must(t, err)
	}
	conn, err := a.Connect(ctx, "b")
	must(t, err)
	roundTrip(t, conn, 10_000)
}
