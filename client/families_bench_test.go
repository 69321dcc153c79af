package client_test

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/protocol/identity"
)

// BenchmarkConnectInBothFamilies measures Connect between two peers that have IPv4 and IPv6 beside one between two that
// have IPv4 alone, over the same links and by turns: the second address may cost nothing, no time and no second
// handshake. The third figure is with IPv6 swallowed on the way, which costs a round trip and a grace.
func BenchmarkConnectInBothFamilies(b *testing.B) {
	w := newWorld6(b, natlab.DualStack)
	link := natlab.Link{Delay: 2500 * time.Microsecond}
	type pair struct {
		name  string
		from  *client.Client
		to    string
		took  []time.Duration
		dials atomic.Int64
		v6    int
	}
	var pairs []*pair
	for _, k := range []struct {
		name string
		f    natlab.Families
		cut  bool
	}{{"IPv4", natlab.IPv4Only, false}, {"both", natlab.DualStack, false}, {"swallowed", natlab.DualStack, true}} {
		p := &pair{name: k.name, to: "to " + k.name}
		_, ha := w.home(k.name+" a", k.f, link)
		site, hb := w.home(k.name+" b", k.f, link)
		count := func(cfg *client.Config) {
			next := cfg.OnEvent
			cfg.OnEvent = func(e client.Event) {
				if e.Kind == client.EventDial {
					p.dials.Add(1)
				}
				next(e)
			}
		}
		p.from = w.client6(ha, "from "+k.name, count)
		echo(b, w.client6(hb, p.to, count))
		if k.cut {
			must(b, site.CutIPv6())
		}
		pairs = append(pairs, p)
	}
	ctx := within(b, 10*time.Minute)
	for b.Loop() {
		for _, p := range pairs {
			began := time.Now()
			conn, err := p.from.Connect(ctx, p.to)
			must(b, err)
			p.took = append(p.took, time.Since(began))
			must(b, conn.Proven(ctx))
			if conn.Info().Remote.Addr().Is6() {
				p.v6++
			}
			must(b, conn.Close())
		}
	}
	for _, p := range pairs {
		slices.Sort(p.took)
		p50, p99 := p.took[len(p.took)/2], p.took[len(p.took)*99/100]
		dials := float64(p.dials.Load()) / float64(len(p.took))
		b.ReportMetric(float64(p50)/1e6, p.name+"-p50-ms")
		b.ReportMetric(dials, p.name+"-dials")
		b.Logf("%s: %d connects, p50 %v, p99 %v, %.2f handshakes begun each, %d by IPv6", p.name, len(p.took), p50, p99, dials, p.v6)
	}
}

// BenchmarkThroughputOfFamilies sends over one stream through kernel NATs or firewalls: by a socket of IPv4 alone, by one of
// both families over IPv4, whose addresses the kernel then maps, and over IPv6; beside bare quic-go over IPv4.
func BenchmarkThroughputOfFamilies(b *testing.B) {
	t := &track{world: newWorld6(b, natlab.DualStack)}
	for i := range t.hosts {
		t.sites[i], t.hosts[i] = t.home(fmt.Sprint("site ", i), natlab.DualStack)
	}
	var err error
	t.id, err = identity.New()
	must(b, err)
	// A socket of both families whose host says that it has IPv4 alone.
	mapped := func(cfg *client.Config) {
		host := cfg.PacketConn.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort().Addr()
		for _, h := range t.hosts {
			if h.Addr() == host.Unmap() {
				both(b, h)(cfg)
			}
		}
		cfg.HostAddrs = cfg.HostAddrs[:1]
	}
	rivals := []*rival{t.bare("bare", client.DefaultQUIC(), nil), t.ours("IPv4"), t.ours("IPv4-by-socket-of-both", mapped), t.ours6("IPv6")}
	race(b, 1, rivals)
}

// ours6 is ours over IPv6.
func (t *track) ours6(name string) *rival {
	t.t.Helper()
	from, to := t.client6(t.hosts[0], name+" a"), t.client6(t.hosts[1], name+" b")
	r, conn := t.join(name, from, to, name+" b")
	if conn.Info().Remote.Addr().Is4() {
		t.t.Fatalf("connected to %s", conn.Info().Remote)
	}
	return r
}
