package natlab_test

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bradawl/bradawl/internal/natlab"
	"golang.org/x/sys/unix"
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

// stream sends n numbered packets from a host behind a link to a public host, and returns the
// numbers in the order that they came.
func stream(t *testing.T, link natlab.Link, n int) (got []int) {
	t.Helper()
	l := newLab(t)
	site := addSite(t, l, natlab.SiteConfig{NAT: natlab.PortRestricted(), Link: link})
	p, e := listen(t, addHost(t, l, "public")), listen(t, addHost(t, site, "a"))
	const window = 50 // as many fit any buffer on the way
	for first := 0; first < n; first += window {
		for i := first; i < min(first+window, n); i++ {
			e.send(p.addr, strconv.Itoa(i))
		}
		want := uint64(min(first+window, n))
		for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
			stats, err := site.LinkStats()
			check(t, err)
			if stats.Up.Forwarded+stats.Up.Lost+stats.Up.Overflowed >= want {
				if stats.Up.Overflowed > 0 {
					t.Fatalf("the link overflowed: %+v", stats)
				}
				for len(got) < int(stats.Up.Forwarded) {
					_, what := p.receive()
					i, err := strconv.Atoi(what)
					check(t, err)
					got = append(got, i)
				}
				break
			}
		}
	}
	return got
}

func overtaken(order []int) (n int) {
	highest := -1
	for _, i := range order {
		if i < highest {
			n++
		}
		highest = max(highest, i)
	}
	return n
}

func TestLinkLosesItsShareRepeatably(t *testing.T) {
	const n, loss = 1000, 0.2
	link := natlab.Link{Loss: loss, Seed: 7}
	first, again := stream(t, link, n), stream(t, link, n)
	if !slices.Equal(first, again) {
		t.Error("two runs with one seed lost different packets")
	}
	deviation := math.Sqrt(n * loss * (1 - loss))
	if lost := n - len(first); math.Abs(float64(lost)-n*loss) > 5*deviation {
		t.Errorf("%d of %d packets were lost, want a share of %v", lost, n, loss)
	}
	link.Seed = 8
	if slices.Equal(first, stream(t, link, n)) {
		t.Error("two seeds lost the same packets")
	}
}

func TestLinkReordersOnlyIfAsked(t *testing.T) {
	const n = 400
	jitter := natlab.Link{Delay: time.Millisecond, Jitter: 2 * time.Millisecond}
	if late := overtaken(stream(t, jitter, n)); late > n/50 { // a few may change places in the kernel
		t.Errorf("%d of %d packets were overtaken on a link with jitter only", late, n)
	}
	reorder := natlab.Link{Delay: time.Millisecond, Reorder: 0.2, ReorderBy: 5 * time.Millisecond}
	got := stream(t, reorder, n)
	if late := overtaken(got); late < n/20 {
		t.Errorf("%d of %d packets were overtaken, want about one in 5", late, n)
	}
	if len(got) != n {
		t.Errorf("%d of %d packets came", len(got), n)
	}
}

func TestLinkCanBeChanged(t *testing.T) {
	l := newLab(t)
	site := addSite(t, l, natlab.SiteConfig{Link: natlab.Link{Delay: 20 * time.Millisecond}})
	h := addHost(t, site, "a")
	if least := quantile(roundTrips(t, l, h, 5), 0); least < 40*time.Millisecond {
		t.Errorf("a round trip took %v, less than 40 ms", least)
	}
	check(t, site.SetLink(natlab.Link{Delay: time.Millisecond}))
	if least := quantile(roundTrips(t, l, h, 20), 0); least < 2*time.Millisecond || least > 20*time.Millisecond {
		t.Errorf("the quickest round trip took %v, want some 2 ms", least)
	}
	plain := addSite(t, l, natlab.SiteConfig{})
	if err := plain.SetLink(natlab.Link{Delay: 1}); err == nil {
		t.Error("a link without a forwarder took a delay")
	}
}

func TestLinkHasTheMTUAskedFor(t *testing.T) {
	for name, link := range map[string]natlab.Link{
		"kernel":    {MTU: 1400},
		"forwarder": {MTU: 1400, Delay: time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			site := addSite(t, l, natlab.SiteConfig{NAT: natlab.PortRestricted(), Link: link})
			p, e := listen(t, addHost(t, l, "public")), listen(t, addHost(t, site, "a"))
			raw, err := e.conn.SyscallConn()
			check(t, err)
			check(t, raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
			}))
			check(t, err)
			e.send(p.addr, strings.Repeat("x", 1400-28))
			if _, what := p.receive(); len(what) != 1400-28 {
				t.Fatalf("%d bytes came", len(what))
			}
			for start := time.Now(); ; { // the first goes out, and the router complains
				_, err := e.conn.WriteToUDPAddrPort(make([]byte, 1400-28+1), p.addr)
				if errors.Is(err, unix.EMSGSIZE) {
					break
				}
				check(t, err)
				if time.Since(start) > patience {
					t.Fatal("a packet longer than the MTU is not refused")
				}
			}
		})
	}
}

// BenchmarkLinkDelay prints how much longer than asked for a round trip takes. Two wake-ups
// of the sockets' readers are part of that.
func BenchmarkLinkDelay(b *testing.B) {
	l := newLab(b)
	const delay = 5 * time.Millisecond
	site := addSite(b, l, natlab.SiteConfig{NAT: natlab.PortRestricted(), Link: natlab.Link{Delay: delay}})
	h := addHost(b, site, "a")
	for b.Loop() {
		rtts := roundTrips(b, l, h, 200)
		b.ReportMetric(float64((quantile(rtts, 0.5) - 2*delay).Microseconds()), "p50-excess-us")
		b.ReportMetric(float64((quantile(rtts, 0.99) - 2*delay).Microseconds()), "p99-excess-us")
	}
	stats, err := site.LinkStats()
	check(b, err)
	packets := stats.Up.Forwarded + stats.Down.Forwarded
	b.ReportMetric(100*float64(stats.Up.Late+stats.Down.Late)/float64(packets), "%-over-0.3ms")
}
