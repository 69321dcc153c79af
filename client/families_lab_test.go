package client_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/server/rendezvous"
	"github.com/bradawl/bradawl/server/rendezvous/rendezvoustest"
)

// newWorld6 is a lab with IPv6 and a rendezvous of these families.
func newWorld6(t testing.TB, f natlab.Families, tune ...func(*rendezvous.Config)) *world {
	t.Helper()
	natlab.Require(t)
	lab, err := natlab.New(natlab.Config{})
	must(t, err)
	t.Cleanup(func() { must(t, lab.Close()) })
	natlab.RequireIPv6(t, lab)
	host, err := lab.AddHostWith("rendezvous", f)
	must(t, err)
	return &world{Server: rendezvoustest.Start(t, host, tune...), t: t, lab: lab}
}

// home adds a site of port-restricted NAT and IPv6 firewall, with one host.
func (w *world) home(name string, f natlab.Families, link ...natlab.Link) (*natlab.Site, *natlab.Host) {
	w.t.Helper()
	cfg := natlab.SiteConfig{Name: name, NAT: natlab.PortRestricted(), Families: f}
	if len(link) > 0 {
		cfg.Link = link[0]
	}
	s, err := w.lab.AddSite(cfg)
	must(w.t, err)
	h, err := s.AddHost(name)
	must(w.t, err)
	return s, h
}

// both has a client use one socket for both families of its host.
func both(t testing.TB, h *natlab.Host) func(*client.Config) {
	t.Helper()
	return func(cfg *client.Config) {
		must(t, cfg.PacketConn.Close())
		pc, err := h.ListenUDP(netip.AddrPortFrom(netip.IPv6Unspecified(), 0))
		must(t, err)
		cfg.PacketConn = pc
		cfg.HostAddrs = nil
		for _, a := range []netip.Addr{h.Addr(), h.Addr6()} {
			if a.IsValid() && (len(cfg.HostAddrs) == 0 || cfg.HostAddrs[0] != a) {
				cfg.HostAddrs = append(cfg.HostAddrs, a)
			}
		}
	}
}

// named has a client find the server by a name with these addresses.
func (w *world) named(addrs ...netip.Addr) func(*client.Config) {
	return func(cfg *client.Config) {
		u, err := protocol.ParseURL(cfg.URL)
		must(w.t, err)
		u.Host = fmt.Sprintf("rendezvous.test:%d", w.Addr().Port())
		cfg.URL = u.Secret()
		cfg.LookupNetIP = func(_ context.Context, _, host string) ([]netip.Addr, error) {
			if host != "rendezvous.test" {
				return nil, fmt.Errorf("asked for %q", host)
			}
			return addrs, nil
		}
	}
}

// client6 signs in with one socket for all that the host has. If it has both families, it waits until the server knows
// both of its addresses, or that there is no second one.
func (w *world) client6(h *natlab.Host, name string, change ...func(*client.Config)) *client.Client {
	w.t.Helper()
	second := make(chan client.Event, 1)
	var once sync.Once
	change = append([]func(*client.Config){both(w.t, h), func(cfg *client.Config) {
		cfg.OnEvent = func(e client.Event) {
			if e.Kind == client.EventAddress {
				once.Do(func() { second <- e })
			}
		}
	}}, change...)
	c := w.client(h, name, change...)
	if h.Addr() != h.Addr6() && h.Addr6().IsValid() && c.Status().OtherFamily.Server.IsValid() {
		select {
		case e := <-second:
			w.t.Logf("%s is at %s and %s %s", name, c.Status().Observed, e.Addr, e.Detail)
		case <-time.After(10 * time.Second):
			w.t.Fatalf("%s does not know its second address", name)
		}
	}
	_, err := c.WaitPeers(within(w.t, 10*time.Second), 1, "") // the server has read what was sent before
	must(w.t, err)
	return c
}

func TestPeersOfEveryPairOfFamilies(t *testing.T) {
	v4, dual, v6 := natlab.IPv4Only, natlab.DualStack, natlab.IPv6Only
	for _, tc := range []struct {
		a, b natlab.Families
		want string // the family of the path; empty: none
	}{
		{v4, v4, "IPv4"}, {v4, dual, "IPv4"}, {dual, v4, "IPv4"},
		{dual, dual, "IPv6"}, {dual, v6, "IPv6"}, {v6, dual, "IPv6"}, {v6, v6, "IPv6"},
		{v4, v6, ""}, {v6, v4, ""},
	} {
		t.Run(fmt.Sprintf("%s and %s", tc.a, tc.b), func(t *testing.T) {
			t.Parallel()
			w := newWorld6(t, natlab.DualStack)
			names := w.named(w.Addr().Addr(), w.serverAddr6())
			var sites [2]*natlab.Site
			var peers [2]*client.Client
			for i, f := range []natlab.Families{tc.a, tc.b} {
				name := []string{"a", "b"}[i]
				site, h := w.home(name, f, quarter())
				sites[i], peers[i] = site, w.client6(h, name, names)
			}
			a, b := peers[0], peers[1]
			echo(t, b)
			ctx := within(t, 15*time.Second)
			began := time.Now()
			conn, err := a.Connect(ctx, "b")
			if tc.want == "" {
				if client.ReasonOf(err) != protocol.ReasonNoInbound || !strings.Contains(err.Error(), "only IPv6") {
					t.Errorf("connect: %v, want no_inbound that names the families", err)
				}
				if took := time.Since(began); took > 900*time.Millisecond { // waiting for an address that may come would take longer
					t.Errorf("the failure took %v", took)
				}
				return
			}
			must(t, err)
			must(t, conn.Proven(ctx))
			conn = inFamily(ctx, t, a, "b", conn, tc.want == "IPv4")
			i := conn.Info()
			if i.Local.Addr().Is4() != i.Remote.Addr().Is4() {
				t.Errorf("the path goes from %s to %s", i.Local, i.Remote)
			}
			if i.Attempts != 1 {
				t.Errorf("%d attempts", i.Attempts)
			}
			roundTrip(t, conn, 200_000)
		})
	}
}

// inFamily gives a's connection to the peer if its path is of the family, else another one: where both peers have both, IPv4 is dialled
// as well when IPv6 stays silent for long, as it may on a busy machine. One of five must do.
func inFamily(ctx context.Context, t *testing.T, a *client.Client, peer string, conn *client.Conn, is4 bool) *client.Conn {
	t.Helper()
	for range 4 {
		if conn.Info().Remote.Addr().Is4() == is4 {
			return conn
		}
		t.Logf("the path goes to %s", conn.Info().Remote)
		must(t, conn.Close())
		var err error
		conn, err = a.Connect(ctx, peer)
		must(t, err)
		must(t, conn.Proven(ctx))
	}
	if got := conn.Info().Remote; got.Addr().Is4() != is4 {
		t.Fatalf("the path goes to %s, the wrong family", got)
	}
	return conn
}

// serverAddr6 is the rendezvous's IPv6 address.
func (w *world) serverAddr6() netip.Addr {
	w.t.Helper()
	return w.lab.Self().Addr6().Next() // the first public host after the process itself
}

func TestIPv6ThatIsSwallowedFallsBackToIPv4WithoutATimeout(t *testing.T) {
	t.Parallel()
	w := newWorld6(t, natlab.DualStack)
	link := natlab.Link{Delay: 5 * time.Millisecond}
	_, ha := w.home("a", natlab.DualStack, link)
	sb, hb := w.home("b", natlab.DualStack, link)
	a, b := w.client6(ha, "a"), w.client6(hb, "b")
	echo(t, b)
	must(t, sb.CutIPv6()) // after the server has seen both addresses
	ctx := within(t, 15*time.Second)
	began := time.Now()
	conn, err := a.Connect(ctx, "b")
	took := time.Since(began)
	must(t, err)
	must(t, conn.Proven(ctx))
	if r := conn.Info().Remote; !r.Addr().Is4() || conn.Info().Attempts != 1 {
		t.Errorf("connected to %s at attempt %d", r, conn.Info().Attempts)
	}
	t.Logf("took %v", took)
	if took > 1500*time.Millisecond { // an attempt that failed would have taken longer
		t.Errorf("took %v", took)
	}
	roundTrip(t, conn, 50_000)
}

func TestIPv6LostMidwayIsReplacedByIPv4(t *testing.T) {
	t.Parallel()
	w := newWorld6(t, natlab.DualStack)
	_, ha := w.home("a", natlab.DualStack, quarter())
	sb, hb := w.home("b", natlab.DualStack, quarter())
	fast := func(cfg *client.Config) { cfg.KeepAlive = 800 * time.Millisecond }
	a, b := w.client6(ha, "a", fast), w.client6(hb, "b", fast)
	echo(t, b)
	ctx := within(t, 30*time.Second)
	conn, err := a.Connect(ctx, "b")
	must(t, err)
	must(t, conn.Proven(ctx))
	conn = inFamily(ctx, t, a, "b", conn, false)
	must(t, sb.CutIPv6())
	select {
	case <-conn.Context().Done():
	case <-ctx.Done():
		t.Fatal("the loss was not noticed")
	}
	conn, err = a.Connect(ctx, "b")
	must(t, err)
	must(t, conn.Proven(ctx))
	if !conn.Info().Remote.Addr().Is4() {
		t.Errorf("connected to %s, want IPv4", conn.Info().Remote)
	}
	roundTrip(t, conn, 50_000)
}

// A tunnel often has the least MTU that IPv6 allows.
func TestIPv6OfTheLeastMTUCarriesAConnection(t *testing.T) {
	t.Parallel()
	w := newWorld6(t, natlab.DualStack)
	_, ha := w.home("a", natlab.IPv6Only, natlab.Link{MTU: 1280, Delay: time.Millisecond})
	_, hb := w.home("b", natlab.IPv6Only, quarter())
	names := w.named(w.serverAddr6())
	a, b := w.client6(ha, "a", names), w.client6(hb, "b", names)
	echo(t, b)
	ctx := within(t, 15*time.Second)
	conn, err := a.Connect(ctx, "b")
	must(t, err)
	must(t, conn.Proven(ctx))
	roundTrip(t, conn, 500_000)
}

func TestServerOfOneFamilyServesWhoHasIt(t *testing.T) {
	for _, f := range []natlab.Families{natlab.IPv4Only, natlab.IPv6Only} {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld6(t, f)
			_, ha := w.home("a", natlab.DualStack, quarter())
			_, hb := w.home("b", natlab.DualStack, quarter())
			a, b := w.client6(ha, "a"), w.client6(hb, "b")
			echo(t, b)
			ctx := within(t, 15*time.Second)
			conn, err := a.Connect(ctx, "b")
			must(t, err)
			must(t, conn.Proven(ctx))
			if got := conn.Info().Remote; got.Addr().Is4() != (f == natlab.IPv4Only) {
				t.Errorf("connected to %s", got)
			}
			if s := a.Status(); s.OtherFamily.Observed.IsValid() {
				t.Errorf("the server sees a second address, %s", s.OtherFamily.Observed)
			}
		})
	}
}

func TestSignInTriesTheOtherFamilyOfTheServerSoon(t *testing.T) {
	t.Parallel()
	w := newWorld6(t, natlab.DualStack)
	_, h := w.home("a", natlab.DualStack, quarter())
	v4, v6 := w.Addr().Addr(), w.serverAddr6()
	silent, nobody := w.home("silent", natlab.DualStack) // swallows what comes unasked
	for name, tc := range map[string]struct {
		addrs []netip.Addr
		want6 bool
	}{
		"both work":       {[]netip.Addr{v6, v4}, false},
		"IPv4 is dead":    {[]netip.Addr{silent.PublicAddr(), v6}, true},
		"IPv4 is refused": {[]netip.Addr{w.lab.Self().Addr(), v6}, true},
		"IPv6 is dead":    {[]netip.Addr{nobody.Addr6(), v4}, false},
		"IPv6 is unnamed": {[]netip.Addr{v4}, false},
		"IPv4 is unnamed": {[]netip.Addr{v6}, true},
	} {
		began := time.Now()
		cfg := w.config(h, "a")
		both(t, h)(&cfg)
		w.named(tc.addrs...)(&cfg)
		c, err := client.SignIn(within(t, 10*time.Second), cfg)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if took := time.Since(began); took > 5*time.Second { // half of what a sign-in may take
			t.Errorf("%s: took %v", name, took)
		}
		if got := c.Status().Observed; got.Addr().Is4() == tc.want6 {
			t.Errorf("%s: the server sees %s", name, got)
		}
		must(t, c.Close())
	}
}

func TestPeersOfOneHomeUseIPv6OrTheirPrivateAddresses(t *testing.T) {
	t.Parallel()
	for _, hairpin := range []bool{false, true} {
		w := newWorld6(t, natlab.DualStack)
		nat := natlab.PortRestricted()
		nat.Hairpinning = hairpin
		site, err := w.lab.AddSite(natlab.SiteConfig{Name: "home", NAT: nat, Families: natlab.DualStack})
		must(t, err)
		ha, err := site.AddHost("a")
		must(t, err)
		hb, err := site.AddHost("b")
		must(t, err)
		a, b := w.client6(ha, "a"), w.client6(hb, "b")
		echo(t, b)
		ctx := within(t, 10*time.Second)
		conn, err := a.Connect(ctx, "b")
		must(t, err)
		must(t, conn.Proven(ctx))
		if r := conn.Info().Remote.Addr(); r != hb.Addr() && r != hb.Addr6() && !hairpin {
			t.Errorf("connected to %s, want one of the host's own, %s or %s", r, hb.Addr(), hb.Addr6())
		}
		if got := conn.Info().Path; got != "host" && !hairpin {
			t.Errorf("path %s", got)
		}
		roundTrip(t, conn, 10_000)
	}
}

func TestAPeerWithAPublicAddressInBothFamilies(t *testing.T) {
	t.Parallel()
	w := newWorld6(t, natlab.DualStack)
	ha, err := w.lab.AddHostWith("a", natlab.DualStack)
	must(t, err)
	_, hb := w.home("b", natlab.DualStack, quarter())
	a, b := w.client6(ha, "a"), w.client6(hb, "b")
	echo(t, a)
	echo(t, b)
	ctx := within(t, 15*time.Second)
	for _, way := range []struct {
		from *client.Client
		to   string
	}{{a, "b"}, {b, "a"}} {
		conn, err := way.from.Connect(ctx, way.to)
		must(t, err)
		must(t, conn.Proven(ctx))
		conn = inFamily(ctx, t, way.from, way.to, conn, false)
		if conn.Info().Attempts != 1 {
			t.Errorf("to %s: %+v", way.to, conn.Info())
		}
		roundTrip(t, conn, 10_000)
		must(t, conn.Close())
	}
}

// Symmetric NATs are no hindrance where both peers have IPv6.
func TestIPv6ConnectsWhereTheNATsAreHopeless(t *testing.T) {
	t.Parallel()
	w := newWorld6(t, natlab.DualStack)
	var peers [2]*client.Client
	for i, name := range []string{"a", "b"} {
		s, err := w.lab.AddSite(natlab.SiteConfig{Name: name, NAT: natlab.Symmetric(), Families: natlab.DualStack, Link: quarter()})
		must(t, err)
		h, err := s.AddHost(name)
		must(t, err)
		peers[i] = w.client6(h, name)
	}
	echo(t, peers[1])
	ctx := within(t, 15*time.Second)
	conn, err := peers[0].Connect(ctx, "b")
	must(t, err)
	must(t, conn.Proven(ctx))
	if conn.Info().Remote.Addr().Is4() {
		t.Errorf("connected to %s", conn.Info().Remote)
	}
}

func TestNetcheckShowsBothFamilies(t *testing.T) {
	t.Parallel()
	w := newWorld6(t, natlab.DualStack)
	site, h := w.home("a", natlab.DualStack, quarter())
	c := w.client6(h, "a")
	ctx := within(t, 15*time.Second)
	opts := client.DiscoverOptions{Tests: []client.Test{client.TestMapping}}
	r, err := c.Discover(ctx, opts)
	must(t, err)
	if r.IPv4.Addr() != site.PublicAddr() || r.IPv6.Addr() != h.Addr6() || r.NoIPv4+r.NoIPv6 != "" {
		t.Errorf("%s and %s (%q, %q), want %s and %s", r.IPv4, r.IPv6, r.NoIPv4, r.NoIPv6, site.PublicAddr(), h.Addr6())
	}
	must(t, site.CutIPv6())
	r, err = c.Discover(ctx, opts)
	must(t, err)
	if !r.IPv4.IsValid() || r.IPv6.IsValid() || !strings.Contains(r.NoIPv6, "no answer from") {
		t.Errorf("without IPv6: %s and %s (%q, %q)", r.IPv4, r.IPv6, r.NoIPv4, r.NoIPv6)
	}
	var rows []string
	for _, f := range r.Findings() {
		rows = append(rows, f.What+": "+f.Result)
	}
	if table := strings.Join(rows, "\n"); !strings.Contains(table, "IPv4 address seen by the server: "+r.IPv4.String()) ||
		!strings.Contains(table, "IPv6 address seen by the server: none (no answer from") {
		t.Errorf("the table says\n%s", table)
	}
}
