package client_test

import (
	"slices"
	"testing"
	"time"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/protocol/identity"
)

// BenchmarkConnectPortRestricted measures Connect between two hosts behind
// port-restricted NATs, each 0.25 ms from the core, and puts it beside the floor
// S+P: one round trip to the rendezvous and one to the peer, both the smallest
// measured in the same run. The one who asks signs in afresh each time, so that
// the NATs know nothing of the two.
func BenchmarkConnectPortRestricted(b *testing.B) {
	w := newWorld(b)
	link := natlab.Link{Delay: 250 * time.Microsecond}
	host := w.behind("a", natlab.PortRestricted(), link)
	to := w.client(w.behind("b", natlab.PortRestricted(), link), "b")
	echo(b, to)
	ctx := within(b, 10*time.Minute)

	id, err := identity.New()
	must(b, err)
	var took []time.Duration
	s, p := time.Duration(1<<62), time.Duration(1<<62)
	for b.Loop() {
		b.StopTimer()
		from := w.client(host, "a", func(c *client.Config) { c.Identity = id })
		rtt, err := from.Ping(ctx)
		must(b, err)
		b.StartTimer()
		start := time.Now()
		conn, err := from.Connect(ctx, "b")
		must(b, err)
		took = append(took, time.Since(start))
		b.StopTimer()
		must(b, conn.Proven(ctx))
		s, p = min(s, rtt), min(p, conn.MinRTT())
		must(b, from.Close())
		b.StartTimer()
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	b.ReportMetric(ms(p50), "p50-ms")
	b.ReportMetric(ms(p99), "p99-ms")
	b.ReportMetric(ms(s+p), "floor-ms")
	b.ReportMetric(ms(p50-s-p), "p50-over-floor-ms")
	b.Logf("%d connects: p50 %v, p99 %v; floor S+P = %v + %v = %v; p50 is %v above it", len(took), p50, p99, s, p, s+p, p50-s-p)
}
