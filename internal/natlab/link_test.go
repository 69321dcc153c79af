package natlab_test

import (
	"slices"
	"testing"
	"time"

	"github.com/bradawl/bradawl/internal/natlab"
)

// roundTrips measures n round trips from a host to an echo at a public host, in order.
func roundTrips(t testing.TB, l *natlab.Lab, h *natlab.Host, n int) []time.Duration {
	t.Helper()
	echo := listen(t, addHost(t, l, "echo"))
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := echo.conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return // closed at the end of the test
			}
			if _, err := echo.conn.WriteToUDPAddrPort(b[:n], from); err != nil {
				return
			}
		}
	}()
	e := listen(t, h)
	e.send(echo.addr, "warm")
	e.receive()
	times := make([]time.Duration, n)
	for i := range times {
		start := time.Now()
		e.send(echo.addr, "ping")
		e.receive()
		times[i] = time.Since(start)
	}
	return times
}

func quantile(d []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[int(q*float64(len(sorted)-1))]
}

func TestLinkDelaysEachWay(t *testing.T) {
	l := newLab(t)
	const delay = 5 * time.Millisecond
	site := addSite(t, l, natlab.SiteConfig{NAT: natlab.PortRestricted(), Link: natlab.Link{Delay: delay}})
	rtts := roundTrips(t, l, addHost(t, site, "a"), 200)
	least, median := quantile(rtts, 0), quantile(rtts, 0.5)
	t.Logf("round trips: least %v, median %v, p99 %v", least, median, quantile(rtts, 0.99))
	if least < 2*delay {
		t.Errorf("a round trip took %v, less than %v", least, 2*delay)
	}
	if limit := 2*delay + 2*time.Millisecond; median > limit { // loose: the machine may be busy
		t.Errorf("the median round trip took %v, more than %v", median, limit)
	}
	stats, err := site.LinkStats()
	check(t, err)
	t.Logf("%+v", stats)
	if stats.Up.Forwarded < 200 || stats.Down.Forwarded < 200 || stats.Up.Lost+stats.Down.Lost > 0 {
		t.Errorf("link: %+v; want 200 packets each way, and none lost", stats)
	}
}
