package rendezvous

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/bradawl/bradawl/protocol"
)

// probe sends a request to a server's socket and returns who answers what on conn.
func probe(t *testing.T, by, conn net.PacketConn, to net.Addr, p protocol.Probe) (netip.AddrPort, netip.AddrPort, error) {
	t.Helper()
	b, err := protocol.AppendProbe(nil, p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := by.WriteTo(b, to); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	in := make([]byte, 2000)
	n, from, err := conn.ReadFrom(in)
	if err != nil {
		t.Fatal(err)
	}
	if n > len(b)+24 {
		t.Errorf("%d bytes answer %d", n, len(b))
	}
	_, mapped, err := protocol.ParseProbeAnswer(in[:n])
	return addrPortOf(from), mapped, err
}

// otherSocket is a socket on another address of the loopback.
func otherSocket(t *testing.T) net.PacketConn {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSTUNAnswersFromTheSocketThatTheRequestNames(t *testing.T) {
	t.Parallel()
	ts := startServer(t, func(c *Config) { c.OtherPacketConn = otherSocket(t) })
	main, alternate, other := ts.Addr(), ts.cfg.AltPacketConn.LocalAddr(), ts.cfg.OtherPacketConn.LocalAddr()
	for _, tc := range []struct {
		to, from net.Addr
		probe    protocol.Probe
	}{
		{main, main, protocol.Probe{}},
		{main, alternate, protocol.Probe{ChangePort: true}},
		{main, other, protocol.Probe{ChangeIP: true}},
		{main, other, protocol.Probe{ChangeIP: true, ChangePort: true}},
		{alternate, main, protocol.Probe{ChangePort: true}},
		{alternate, alternate, protocol.Probe{Size: 1400}},
		{other, main, protocol.Probe{ChangeIP: true}},
	} {
		c := udp(t)
		from, mapped, err := probe(t, c, c, tc.to, tc.probe)
		if err != nil || from != addrPortOf(tc.from) || mapped != addrPortOf(c.LocalAddr()) {
			t.Errorf("%+v to %v: %v answers %v, %v; want %v", tc.probe, tc.to, from, mapped, err, tc.from)
		}
		_ = c.Close()
	}
}

func TestSTUNAnswersAnotherPortOfTheSameSource(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	c, d := udp(t), udp(t)
	defer func() { _ = c.Close(); _ = d.Close() }()
	from, mapped, err := probe(t, c, d, ts.Addr(), protocol.Probe{ResponsePort: addrPortOf(d.LocalAddr()).Port()})
	if err != nil || from != addrPortOf(ts.Addr()) || mapped != addrPortOf(c.LocalAddr()) {
		t.Errorf("%v answers %v, %v", from, mapped, err)
	}
}

func TestSTUNRefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	unknown := append(protocol.AppendBindingRequest(nil, [12]byte{}), 0x7f, 0xff, 0, 0)
	unknown[3] = 4
	c := udp(t)
	defer func() { _ = c.Close() }()
	for _, p := range []protocol.Probe{{ChangeIP: true}, {ResponsePort: 53}} {
		if from, mapped, err := probe(t, c, c, ts.Addr(), p); !errors.Is(err, protocol.ErrProbeRefused) {
			t.Errorf("%+v: %v answers %v, %v", p, from, mapped, err)
		}
	}
	if r := ts.stun.answer(nil, unknown, addrPortOf(c.LocalAddr()), stunMain); len(r.packet) == 0 {
		t.Error("an unknown attribute is not answered")
	} else if _, _, err := protocol.ParseProbeAnswer(r.packet); !errors.Is(err, protocol.ErrProbeRefused) {
		t.Errorf("an unknown attribute: %v", err)
	}
}

func TestOtherSocketNeedsASpecificAddress(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	cfg := ts.cfg
	cfg.Registerer = nil
	var err error
	if cfg.OtherPacketConn, err = net.ListenPacket("udp", ":0"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cfg.OtherPacketConn.Close() }()
	if _, err := New(cfg); err == nil {
		t.Error("a wildcard is accepted")
	}
	cfg.OtherAddr = netip.MustParseAddrPort("192.0.2.2:3478")
	if _, err := New(cfg); err != nil {
		t.Error(err)
	}
}
