package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/nettest"

	"github.com/bradawl/bradawl/client"
)

func TestStreamsBehaveAsNetConnsShould(t *testing.T) {
	a, b := pair(t)
	ln := b.Listener()
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		c1, c2 = streams(t, a, ln)
		return c1, c2, func() { _ = c1.Close(); _ = c2.Close() }, nil
	})
}

// streams opens a stream and accepts it.
func streams(t testing.TB, from *client.Conn, ln net.Listener) (out, in net.Conn) {
	t.Helper()
	out, err := from.DialStream(within(t, 5*time.Second))
	must(t, err)
	_, err = out.Write([]byte{'!'})
	must(t, err)
	in, err = ln.Accept()
	must(t, err)
	_, err = io.ReadFull(in, make([]byte, 1))
	must(t, err)
	return out, in
}

func TestAStreamsErrorsSayWhoEndedWhat(t *testing.T) {
	a, b := pair(t)
	ln := b.Listener()
	buf := make([]byte, 1)

	out, in := streams(t, a, ln)
	must(t, out.SetReadDeadline(time.Now().Add(-time.Second)))
	if _, err := out.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	must(t, out.SetReadDeadline(time.Time{}))
	_, err := in.Write(buf)
	must(t, err)
	_, err = out.Read(buf)
	must(t, err)

	must(t, out.Close())
	for name, try := range map[string]func() error{
		"read":     func() error { _, err := out.Read(buf); return err },
		"write":    func() error { _, err := out.Write(buf); return err },
		"deadline": func() error { return out.SetDeadline(time.Time{}) },
		"close":    out.Close,
	} {
		if err := try(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
	if _, err := in.Read(buf); err != io.EOF {
		t.Errorf("the other side reads %v, want EOF", err)
	}

	out, in = streams(t, a, ln)
	must(t, in.(interface{ CloseRead() error }).CloseRead())
	_ = out.SetWriteDeadline(time.Now().Add(5 * time.Second))
	for err = nil; err == nil; {
		_, err = out.Write(make([]byte, 1<<16))
	}
	if s, ok := errors.AsType[*quic.StreamError](err); !ok || !s.Remote {
		t.Errorf("writing to who does not read: %v", err)
	}
	_, err = in.Write([]byte("still")) // the other direction is untouched
	must(t, err)
	_, err = io.ReadFull(out, make([]byte, 5))
	must(t, err)

	out, in = streams(t, a, ln)
	must(t, a.Close())
	<-b.Context().Done()
	if _, err := out.Write(buf); !errors.Is(err, client.ErrClosed) {
		t.Errorf("on a closed connection: %v", err)
	}
	if _, err := in.Read(buf); !errors.Is(err, client.ErrPeerClosed) {
		t.Errorf("on a connection that the peer has closed: %v", err)
	}
}

func TestCopyingToAStreamWritesLargePieces(t *testing.T) {
	a, b := pair(t)
	out, in := streams(t, a, b.Listener())
	const n = 3<<20 + 1
	go func() {
		_, _ = io.Copy(out, io.LimitReader(zeros{}, n))
		_ = out.Close()
	}()
	got, err := io.Copy(io.Discard, in)
	if got != n || err != nil {
		t.Errorf("%d bytes of %d, %v", got, n, err)
	}
	if _, ok := out.(io.ReaderFrom); !ok {
		t.Error("io.Copy chooses the pieces")
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func TestManyStreamsAndDatagramsShareAConnection(t *testing.T) {
	a, b := pair(t)
	go echoStreams(b)
	const datagrams = 50
	ctx, cancel := context.WithCancel(within(t, 20*time.Second))
	defer cancel()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() { roundTrip(t, a, 1<<i) })
	}
	seen := make(map[byte]bool)
	for i := range byte(datagrams) { // loss is allowed: each is sent until it arrives
		for !seen[i] {
			must(t, a.SendDatagram([]byte{i}))
			one, stop := context.WithTimeout(ctx, time.Second)
			d, err := b.ReceiveDatagram(one)
			stop()
			if err == nil {
				seen[d[0]] = true
			} else if ctx.Err() != nil {
				t.Fatal(err)
			}
		}
	}
	wg.Wait()
	if len(seen) != datagrams {
		t.Errorf("%d datagrams of %d", len(seen), datagrams)
	}
}

func TestStatsCountWhatPasses(t *testing.T) {
	a, b := pair(t)
	go echoStreams(b)
	const n = 1 << 20
	before := a.Stats()
	roundTrip(t, a, n)
	s, other := a.Stats(), b.Stats()
	for what, got := range map[string]uint64{
		"sent": s.BytesSent - before.BytesSent, "received": s.BytesReceived - before.BytesReceived,
		"received there": other.BytesReceived, "sent there": other.BytesSent,
	} {
		if got < n || got > 2*n {
			t.Errorf("%d bytes %s for a payload of %d each way", got, what, n)
		}
	}
	if s.PacketsSent < n/1500 || s.PacketsReceived < n/1500 || s.Loss() < 0 || s.Loss() > 0.5 {
		t.Errorf("packets: %+v, loss %v", s, s.Loss())
	}
	if s.RTT <= 0 || s.MinRTT <= 0 || s.LatestRTT <= 0 || s.MinRTT > 5*time.Second || s.CongestionWindow == 0 || s.Age <= before.Age {
		t.Errorf("times and window: %+v", s)
	}
	if s.Remote != a.Info().Remote || s.Local != a.Info().Local || !slices.Contains([]string{"server_reflexive", "peer_reflexive"}, s.Path) {
		t.Errorf("path: %+v", s)
	}
	must(t, a.Close())
	<-a.Context().Done()
	if end := a.Stats(); end.BytesSent < s.BytesSent {
		t.Errorf("after the end %+v, before %+v", end, s)
	}
}
