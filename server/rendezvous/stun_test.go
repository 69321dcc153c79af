package rendezvous

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/bradawl/bradawl/protocol"
)

// ask sends a plain Binding request and returns the address that the server answers.
func ask(t testing.TB, conn net.PacketConn, server net.Addr) netip.AddrPort {
	t.Helper()
	if _, err := conn.WriteTo(protocol.AppendBindingRequest(nil, [12]byte{1, 2, 3}), server); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1500)
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	n, _, err := conn.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	return mapped(t, buf[:n])
}

func mapped(t testing.TB, b []byte) netip.AddrPort {
	t.Helper()
	r, err := protocol.ParseBindingResponse(b)
	if err != nil || r.TransactionID != [12]byte{1, 2, 3} {
		t.Fatalf("answer %x: %v", b, err)
	}
	if len(b) > 44 {
		t.Errorf("the answer has %d bytes", len(b))
	}
	return r.Mapped
}

func TestSTUNAnswersOnEachTransport(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	t.Run("udp", func(t *testing.T) {
		c := udp(t)
		defer func() { _ = c.Close() }()
		for _, to := range []net.Addr{ts.Addr(), ts.cfg.AltPacketConn.LocalAddr()} {
			if got, want := ask(t, c, to), addrPortOf(c.LocalAddr()); got != want {
				t.Errorf("%v answers %v, want %v", to, got, want)
			}
		}
	})
	t.Run("tcp", func(t *testing.T) {
		c, err := net.Dial("tcp", ts.tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		for range tcpRequests {
			request := protocol.AppendBindingRequest(nil, [12]byte{1, 2, 3})
			for _, part := range [][]byte{request[:7], request[7:]} {
				if _, err := c.Write(part); err != nil {
					t.Fatal(err)
				}
			}
			answer, err := readSTUN(c, make([]byte, 100))
			if err != nil {
				t.Fatal(err)
			}
			if got, want := mapped(t, answer), addrPortOf(c.LocalAddr()); got != want {
				t.Errorf("answers %v, want %v", got, want)
			}
		}
		if n, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("after %d requests the connection gives %d bytes, %v", tcpRequests, n, err)
		}
	})
}

func TestSTUNOverTCPClosesOnGarbage(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	c, err := net.Dial("tcp", ts.tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write(bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 4)); err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("answered with %d bytes", n)
	}
}

func TestSTUNOverTCPBoundsConnections(t *testing.T) {
	t.Parallel()
	ts := startServer(t, func(c *Config) { c.Limits.MaxTCPConns = 2 })
	for i := range 3 {
		c, err := net.Dial("tcp", ts.tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if i < 2 {
			// Answered, so that the server has accepted it before the next one comes.
			if _, err := c.Write(protocol.AppendBindingRequest(nil, [12]byte{1, 2, 3})); err != nil {
				t.Fatal(err)
			}
			if _, err := readSTUN(c, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a connection above the bound was served")
		}
	}
	if n := testutil.ToFloat64(ts.metrics.drops.WithLabelValues(dropTCPConns)); n != 1 {
		t.Errorf("%v dropped, want 1", n)
	}
}

func TestSTUNRateIsBoundedPerSourceAndSourcesAreForgotten(t *testing.T) {
	t.Parallel()
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	s := &stunServer{rates: newSourceRates(1000, 5, 10), metrics: m}
	request := protocol.AppendBindingRequest(nil, [12]byte{})
	from := netip.MustParseAddrPort("198.51.100.1:1")
	answered := 0
	for range 100 {
		if len(s.answer(nil, request, from, stunMain).packet) != 0 {
			answered++
		}
	}
	if answered < 20 || answered > 25 { // the burst, and what the clock adds
		t.Errorf("%d answered to one source, want about 20", answered)
	}
	if len(s.answer(nil, request, netip.MustParseAddrPort("198.51.100.2:1"), stunMain).packet) == 0 {
		t.Error("another source is limited too")
	}
	for i := range 1000 {
		s.answer(nil, request, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 9), stunMain)
	}
	if n := s.rates.size(); n > 20 {
		t.Errorf("%d sources are remembered, bound 20", n)
	}
	answered = 0
	for i := range 5000 { // forged sources do not get more than the rate in all
		if len(s.answer(nil, request, netip.AddrPortFrom(netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}), 9), stunMain).packet) != 0 {
			answered++
		}
	}
	if answered > 1100 {
		t.Errorf("%d answered to forged sources, want at most 1000 or so", answered)
	}
}

func TestSourceIsAnAddressOrAnIPv6Network(t *testing.T) {
	t.Parallel()
	for a, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1": "192.0.2.1/32", "2001:db8:1:2:3::4": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := sourceOf(netip.MustParseAddr(a)); got.String() != want {
			t.Errorf("%s counts as %v, want %s", a, got, want)
		}
	}
	if p := sourceOf(netip.Addr{}); p.IsValid() {
		t.Errorf("no address counts as %v", p)
	}
}

func FuzzSTUN(f *testing.F) {
	f.Add(protocol.AppendBindingRequest(nil, [12]byte{1}))
	for _, p := range []protocol.Probe{{ChangeIP: true, ChangePort: true}, {ResponsePort: 2000}, {ResponsePort: 22}, {Size: 600}} {
		b, err := protocol.AppendProbe(nil, p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0x21, 0x12, 0xa4, 0x42}, 9))
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		f.Fatal(err)
	}
	s := &stunServer{rates: newSourceRates(1<<30, 1<<28, 8), metrics: m}
	from := netip.MustParseAddrPort("[2001:db8::1]:65535")
	f.Fuzz(func(t *testing.T, b []byte) {
		if a := s.answer(nil, b, from, stunMain); len(a.packet) > 0 {
			_, mapped, err := protocol.ParseProbeAnswer(a.packet)
			if err == nil && mapped != from || err != nil && !errors.Is(err, protocol.ErrProbeRefused) || len(a.packet) > len(b)+24 || a.to.Addr() != from.Addr() {
				t.Errorf("%x is answered with %x to %v: %v", b, a.packet, a.to, err)
			}
		}
		packet, err := readSTUN(bytes.NewReader(b), make([]byte, protocol.MaxSTUN))
		if err == nil && !bytes.HasPrefix(b, packet) {
			t.Errorf("%x is read as %x", b, packet)
		}
	})
}
