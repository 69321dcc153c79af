package rendezvous

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/pb"
)

// BenchmarkSignIn compares sign-ins, from the first packet to SignedIn, with bare handshakes of quic-go under the same
// TLS configuration, and with a handshake plus one message each way. Both sides run here, so both sides' cost is counted.
func BenchmarkSignIn(b *testing.B) {
	id := newIdentity(b)
	b.Run("handshake", func(b *testing.B) {
		addr, pin := bareServer(b, false)
		dialMany(b, addr, pin, id, func(int64, *quic.Conn) error { return nil })
	})
	b.Run("handshake+echo", func(b *testing.B) {
		addr, pin := bareServer(b, true)
		dialMany(b, addr, pin, id, func(_ int64, c *quic.Conn) error {
			s, err := c.OpenStream()
			if err != nil {
				return err
			}
			if _, err := s.Write(make([]byte, 300)); err != nil {
				return err
			}
			_, err = s.Read(make([]byte, 300))
			return err
		})
	})
	b.Run("sign-in", func(b *testing.B) {
		ts := startServer(b, func(c *Config) { c.Limits.HandshakesPerSecond = 1 << 20 })
		tok := ts.token(b, "*", "*", time.Hour)
		dialMany(b, ts.Addr(), ts.id.Fingerprint(), id, func(n int64, c *quic.Conn) error {
			s, err := c.OpenStream()
			if err != nil {
				return err
			}
			in := &pb.SignIn{Token: tok, Group: fmt.Sprintf("g%d", n%64), Name: fmt.Sprintf("peer-%d", n)}
			if err := protocol.WriteMessage(s, &pb.ClientMessage{Body: &pb.ClientMessage_SignIn{SignIn: in}}); err != nil {
				return err
			}
			var m pb.ServerMessage
			if err := protocol.ReadMessage(bufio.NewReader(s), &m, protocol.MaxServerMessage); err != nil {
				return err
			}
			if m.GetSignedIn() == nil {
				return fmt.Errorf("answered with %v", &m)
			}
			return nil
		})
	})
}

// dialMany makes b.N connections, 16 at a time, and calls f with each before it is closed.
func dialMany(b *testing.B, addr net.Addr, pin identity.Fingerprint, id *identity.Identity, f func(int64, *quic.Conn) error) {
	var n atomic.Int64
	b.SetParallelism(16)
	b.ResetTimer()
	before := cpuTime(b)
	b.RunParallel(func(p *testing.PB) {
		socket := udp(b)
		tr := &quic.Transport{Conn: socket}
		defer func() {
			_ = tr.Close()
			_ = socket.Close()
		}()
		for p.Next() {
			c, err := tr.Dial(context.Background(), addr, identity.DialConfig(id, "server", protocol.ALPNControl, pin), &quic.Config{EnableDatagrams: true})
			if err == nil {
				err = f(n.Add(1), c)
			}
			if err != nil {
				b.Error(err)
				return
			}
			_ = c.CloseWithError(0, "")
		}
	})
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "conns/s")
	b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/conn")
}

// cpuTime is what this process has used; unlike the wall clock it does not count what others do.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bareServer accepts connections under the server's own TLS and QUIC configuration; with echo it returns one message.
func bareServer(b *testing.B, echo bool) (net.Addr, identity.Fingerprint) {
	id := newIdentity(b)
	socket := udp(b)
	tr := &quic.Transport{Conn: socket}
	anyKey := func(identity.Fingerprint, tls.ConnectionState) error { return nil }
	l, err := tr.Listen(identity.ListenConfig(id, protocol.ALPNControl, anyKey), (&Server{}).quicConfig())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = l.Close()
		_ = tr.Close()
		_ = socket.Close()
	})
	go func() {
		for {
			c, err := l.Accept(context.Background())
			if err != nil {
				return
			}
			go func() {
				if echo {
					if s, err := c.AcceptStream(context.Background()); err == nil {
						buf := make([]byte, 300)
						n, _ := s.Read(buf)
						_, _ = s.Write(buf[:n])
					}
				}
				<-c.Context().Done()
			}()
		}
	}()
	return socket.LocalAddr(), id.Fingerprint()
}

// BenchmarkConnect measures from a Connect to the orders at both peers, over loopback.
func BenchmarkConnect(b *testing.B) {
	ts := startServer(b, func(c *Config) { c.Limits.MessagesPerSecond = 1 << 20 })
	x, y := ts.signIn(b, "g", "x", ""), ts.signIn(b, "g", "y", "")
	b.ResetTimer()
	for i := range b.N {
		x.connect(uint64(i+1), "y", 0)
		o := x.order()
		y.order()
		x.report(&pb.Report{SessionId: o.Id, Attempt: 1})
		y.report(&pb.Report{SessionId: o.Id, Attempt: 1})
	}
}

// BenchmarkMesh measures what the state machine needs for the orders of a mesh of 256 peers, 32,640 sessions.
func BenchmarkMesh(b *testing.B) {
	const n = 256
	for b.Loop() {
		l := newGroupLab(b)
		var peers []*peer
		for i := range n {
			p, err := l.enterAs(fmt.Sprintf("peer-%03d", i), "", identity.Fingerprint{byte(i), 1})
			if err != nil {
				b.Fatal(err)
			}
			peers = append(peers, p)
		}
		for _, p := range peers {
			p.join(mesh(1, n))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/(n*(n-1)/2), "µs/session")
}
