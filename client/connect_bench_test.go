package client_test

import (
	"slices"
	"testing"
	"time"

	"github.com/bradawl/bradawl/internal/natlab"
)

// BenchmarkConnectPortRestricted measures Connect between two hosts behind
// port-restricted NATs, each 0.25 ms from the core, and puts it beside the floor
// S+P: one round trip to the rendezvous and one to the peer, both the smallest
// measured in the same run.
func BenchmarkConnectPortRestricted(b *testing.B) {
	w := newWorld(b).serve()
	link := natlab.Link{Delay: 250 * time.Microsecond}
	from := w.client(w.behind("a", natlab.PortRestricted(), link), "a")
	to := w.client(w.behind("b", natlab.PortRestricted(), link), "b")
	echo(b, to)
	ctx := within(b, 10*time.Minute)
	warm, err := from.Connect(ctx, "b") // the first one pays for cold caches
	must(b, err)
	must(b, warm.Proven(ctx))

	var took []time.Duration
	p := warm.MinRTT()
	for b.Loop() {
		start := time.Now()
		conn, err := from.Connect(ctx, "b")
		must(b, err)
		took = append(took, time.Since(start))
		b.StopTimer()
		must(b, conn.Proven(ctx))
		p = min(p, conn.MinRTT())
		must(b, conn.Close())
		b.StartTimer()
	}
	slices.Sort(took)
	s := from.Status().ControlRTT
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	b.ReportMetric(ms(p50), "p50-ms")
	b.ReportMetric(ms(p99), "p99-ms")
	b.ReportMetric(ms(s+p), "floor-ms")
	b.ReportMetric(ms(p50-s-p), "p50-over-floor-ms")
	b.Logf("%d connects: p50 %v, p99 %v; floor S+P = %v + %v = %v; p50 is %v above it", len(took), p50, p99, s, p, s+p, p50-s-p)
}
