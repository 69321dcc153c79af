package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
)

// recorder keeps what is sent through a socket to one address.
type recorder struct {
	*net.UDPConn
	mu   sync.Mutex
	to   netip.Addr
	sent [][]byte
}

func (r *recorder) WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (int, int, error) {
	r.mu.Lock()
	if to.AddrPort().Addr().Unmap() == r.to {
		r.sent = append(r.sent, append([]byte(nil), b...))
	}
	r.mu.Unlock()
	return r.UDPConn.WriteMsgUDP(b, oob, to)
}

func (r *recorder) packets() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([][]byte(nil), r.sent...)
}

func TestHostilePacketsAtAPeersPortAreIgnored(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t)
	ctx := within(t, 30*time.Second)
	hb, err := w.lab.AddHost("b") // no NAT: everything arrives
	must(t, err)
	hx, err := w.lab.AddHost("stranger")
	must(t, err)
	b := w.client(hb, "b")
	echo(t, b)
	victim := b.Status().Observed
	var rec *recorder
	a := w.client(w.behind("a", natlab.PortRestricted()), "a", func(c *client.Config) {
		rec = &recorder{UDPConn: c.PacketConn.(*net.UDPConn), to: hb.Addr()}
		c.PacketConn = rec
	})
	conn, err := a.Connect(ctx, "b")
	must(t, err)
	must(t, conn.Proven(ctx))
	roundTrip(t, conn, 30_000)

	var bad [][]byte
	for _, p := range rec.packets() { // replays, whole, cut off and with a flipped bit
		bad = append(bad, p, p[:rnd.IntN(len(p))])
		flipped := append([]byte(nil), p...)
		flipped[rnd.IntN(len(p))] ^= 1 << rnd.IntN(8)
		bad = append(bad, flipped)
	}
	if len(bad) < 30 {
		t.Fatalf("only %d packets recorded", len(bad))
	}
	for range 300 {
		p := make([]byte, rnd.IntN(1500))
		for i := range p {
			p[i] = byte(rnd.Uint32())
		}
		bad = append(bad, p)
	}
	id := protocol.NewSessionID()
	for i := range 50 {
		tid := [12]byte{byte(i)}
		init, err := protocol.AppendInit(nil, tid, conn.Info().SessionID, "a", protocol.NewSessionKey())
		must(t, err)
		other, err := protocol.AppendInit(nil, tid, id, "a", protocol.NewSessionKey())
		must(t, err)
		answer, err := protocol.AppendBindingResponse(nil, tid, victim, nil)
		must(t, err)
		bad = append(bad, init, other, answer, protocol.AppendBindingRequest(nil, tid))
	}
	rnd.Shuffle(len(bad), func(i, j int) { bad[i], bad[j] = bad[j], bad[i] })

	before := client.Held(b)
	x, err := hx.ListenUDP(netip.AddrPort{})
	must(t, err)
	defer x.Close()
	sent := 0
	for _, p := range bad {
		_, err := x.WriteToUDPAddrPort(p, victim)
		must(t, err)
		sent += len(p)
	}
	// The peers go on: what they had and what is new.
	roundTrip(t, conn, 30_000)
	again, err := a.Connect(ctx, "b")
	must(t, err)
	must(t, again.Proven(ctx))
	roundTrip(t, again, 10_000)
	must(t, again.Close())
	if got := client.Held(b); got[1] > before[1]+2 || got[2] > before[2] || got[3] > before[3]+1 {
		t.Errorf("the peer holds %v, before it was %v", got, before)
	}
	// Nothing worth a reflection came back: refusals of Initials at most.
	must(t, x.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	buf, got := make([]byte, 2000), 0
	for {
		n, err := x.Read(buf)
		if err != nil {
			break
		}
		got += n
		if protocol.IsSTUN(buf[:n]) {
			t.Error("a stranger's STUN was answered")
		}
	}
	if got > sent/4 {
		t.Errorf("%d bytes came back for %d", got, sent)
	}
}

func TestAStrangersHandshakeIsRefusedWithoutState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hb, err := w.lab.AddHost("b")
	must(t, err)
	hx, err := w.lab.AddHost("stranger")
	must(t, err)
	b := w.client(hb, "b")
	pc, err := hx.ListenUDP(netip.AddrPort{})
	must(t, err)
	defer pc.Close()
	tr := &quic.Transport{Conn: pc}
	defer tr.Close()
	id, err := identity.New()
	must(t, err)
	conf := identity.DialConfig(id, protocol.NewSessionID().String()+".peer.bradawl", protocol.ALPNPeer, b.Self().Fingerprint)
	conf.CurvePreferences = []tls.CurveID{tls.X25519}
	_, err = tr.Dial(within(t, 5*time.Second), net.UDPAddrFromAddrPort(b.Status().Observed), conf, nil)
	if refused, ok := errors.AsType[*quic.TransportError](err); !ok || refused.ErrorCode != quic.ConnectionRefused {
		t.Errorf("got %v, want CONNECTION_REFUSED", err)
	}
	if got := client.Held(b); got != [4]int{} {
		t.Errorf("the peer holds %v", got)
	}
}

func TestAPeerWithAnotherKeyIsAMismatch(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"listener", "dialler"} {
		t.Run(who, func(t *testing.T) {
			w := newWorld(t)
			a := w.client(w.behind("a", natlab.PortRestricted(), quarter()), "a")
			b := w.client(w.behind("b", natlab.PortRestricted(), quarter()), "b")
			impostor, err := identity.New()
			must(t, err)
			if who == "listener" {
				client.PretendIdentity(b, impostor)
			} else {
				client.PretendIdentity(a, impostor)
			}
			ctx := within(t, 10*time.Second)
			conn, err := a.Connect(ctx, "b") // the asker dials
			if err == nil {
				err = conn.Proven(ctx) // a dialler learns only then that it was refused
				if cause := context.Cause(conn.Context()); client.ReasonOf(cause) != protocol.ReasonIdentityMismatch {
					t.Errorf("the connection ended with %v", cause)
				}
			}
			if client.ReasonOf(err) != protocol.ReasonIdentityMismatch {
				t.Errorf("got %v, want identity_mismatch", err)
			}
		})
	}
}
