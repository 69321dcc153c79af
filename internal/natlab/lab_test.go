package natlab_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/bradawl/bradawl/internal/natlab"
)

// patience bounds waits for what must happen. Tests pass without ever waiting so long.
const patience = 10 * time.Second

func newLab(t testing.TB) *natlab.Lab {
	t.Helper()
	natlab.Require(t)
	l, err := natlab.New(natlab.Config{})
	check(t, err)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	t.Logf("lab %s, seed %d", l.Prefix(), l.Seed())
	return l
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func addHost(t testing.TB, where interface {
	AddHost(string) (*natlab.Host, error)
}, name string) *natlab.Host {
	t.Helper()
	h, err := where.AddHost(name)
	check(t, err)
	return h
}

func addSite(t testing.TB, l *natlab.Lab, cfg natlab.SiteConfig) *natlab.Site {
	t.Helper()
	s, err := l.AddSite(cfg)
	check(t, err)
	return s
}

// endpoint is a UDP socket of a host.
type endpoint struct {
	t    testing.TB
	conn *net.UDPConn
	addr netip.AddrPort
}

func listen(t testing.TB, h *natlab.Host) *endpoint {
	t.Helper()
	return listenOn(t, h, 0)
}

func listenOn(t testing.TB, h *natlab.Host, port uint16) *endpoint {
	t.Helper()
	conn, err := h.ListenUDP(netip.AddrPortFrom(netip.Addr{}, port))
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return &endpoint{t, conn, conn.LocalAddr().(*net.UDPAddr).AddrPort()}
}

func (e *endpoint) send(to netip.AddrPort, what string) {
	e.t.Helper()
	_, err := e.conn.WriteToUDPAddrPort([]byte(what), to)
	check(e.t, err)
}

// receive returns the next packet.
func (e *endpoint) receive() (from netip.AddrPort, what string) {
	e.t.Helper()
	check(e.t, e.conn.SetReadDeadline(time.Now().Add(patience)))
	b := make([]byte, 2048)
	n, from, err := e.conn.ReadFromUDPAddrPort(b)
	check(e.t, err)
	return netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), string(b[:n])
}

// until collects packets up to the one that says last, by what they say.
func (e *endpoint) until(last string) map[string]netip.AddrPort {
	e.t.Helper()
	got := make(map[string]netip.AddrPort)
	for {
		from, what := e.receive()
		if what == last {
			return got
		}
		got[what] = from
	}
}

// observe sends from e to a public endpoint, and returns e's address as seen there.
func (e *endpoint) observe(public *endpoint) netip.AddrPort {
	e.t.Helper()
	e.send(public.addr, "observe")
	from, _ := public.receive()
	return from
}
