package client

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/bradawl/bradawl/internal/clocksync"
	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
)

// mute is a socket that falls silent after a number of packets.
type mute struct {
	*net.UDPConn
	left atomic.Int32
}

func (m *mute) WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (int, int, error) {
	if m.left.Add(-1) < 0 {
		return len(b), len(oob), nil
	}
	return m.UDPConn.WriteMsgUDP(b, oob, to)
}

func loopbackUDP(t testing.TB) *net.UDPConn {
	t.Helper()
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.Close() })
	return pc
}

func TestAStalledHandshakeHoldsUpNobodyAndTheProofBeginsEarly(t *testing.T) {
	own, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	peer, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	set, err := Config{URL: "bradawl://t@h", Group: "g", Name: "a"}.check()
	if err != nil {
		t.Fatal(err)
	}
	pc := loopbackUDP(t)
	c := &Client{sessions: newSessions(), clock: clocksync.New(0), identity: own, pc: pc, cfg: set, peerQUIC: peerQUICConfig(set),
		accepted: newQueue[*Conn](0), conns: make(map[*Conn]struct{})}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.prepared.ready = make(map[preparedFor]*readyOutlet)
	if c.transport, c.listener, err = c.transportOn(c.pc); err != nil {
		t.Fatal(err)
	}
	c.wg.Go(func() { c.acceptPeers(c.ctx, c.listener) })
	defer func() {
		c.cancel(nil)
		_ = c.listener.Close()
		_ = c.transport.Close()
		c.wg.Wait()
	}()

	silent, good := &mute{UDPConn: loopbackUDP(t)}, loopbackUDP(t)
	silent.left.Store(1)
	o, err := parseOrder(goodOrder())
	if err != nil {
		t.Fatal(err)
	}
	o.dialler, o.giveUp, o.peer.Fingerprint = false, time.Minute, peer.Fingerprint()
	s := &session{c: c, id: o.id, peer: o.peer}
	a := c.newAttempt(s, o, time.Now())
	defer a.cancel(nil)
	c.sessions.start(s, a, []netip.AddrPort{boundTo(silent), boundTo(good)})

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	dial := func(ctx context.Context, pc net.PacketConn) (*quic.Conn, error) {
		tr := &quic.Transport{Conn: pc}
		t.Cleanup(func() { _ = tr.Close() })
		conf := identity.DialConfig(peer, serverName(o.id), protocol.ALPNPeer, own.Fingerprint())
		conf.CurvePreferences = []tls.CurveID{tls.X25519}
		return tr.Dial(ctx, c.pc.LocalAddr(), conf, c.peerQUIC)
	}
	stalled, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		_, err := dial(stalled, silent)
		ended <- err
	}()
	for arrived := false; !arrived; {
		a.mu.Lock()
		arrived = a.handshakes == 1
		a.mu.Unlock()
		if ctx.Err() != nil {
			t.Fatal("the first handshake did not arrive")
		}
	}
	start := time.Now()
	qc, err := dial(ctx, good)
	if err != nil {
		t.Fatal(err)
	}
	in, err := qc.AcceptUniStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	magic := make([]byte, len(proofMagic))
	if _, err := in.Read(magic); err != nil || string(magic) != proofMagic {
		t.Errorf("the proof begins with %q, %v", magic, err)
	}
	if took := time.Since(start); took > handshakeLimit/2 {
		t.Errorf("the proof began after %v, behind the stalled handshake", took)
	}
	_ = qc.CloseWithError(0, "")
	stop()
	<-ended
}
