package natlab_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/bradawl/bradawl/internal/natlab"
	"golang.org/x/sys/unix"
)

// QUIC leaves segmentation to the network card (UDP_SEGMENT). It must not matter to it whether the
// kernel or the forwarder carries its packets.
func TestSegmentationOffloadPassesNATs(t *testing.T) {
	t.Parallel()
	for name, link := range map[string]natlab.Link{"kernel": {}, "forwarder": {Delay: time.Millisecond}} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			site := addSite(t, l, natlab.SiteConfig{NAT: natlab.PortRestricted(), Link: link})
			p, e := listen(t, addHost(t, l, "public")), listen(t, addHost(t, site, "a"))
			raw, err := e.conn.SyscallConn()
			check(t, err)
			const size, count = 1200, 20
			check(t, raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, size)
			}))
			check(t, err)
			sent := make([]byte, size*count)
			for i := range sent {
				sent[i] = byte(i / size)
			}
			e.send(p.addr, string(sent))
			var got []byte
			for range count {
				_, what := p.receive()
				if len(what) != size {
					t.Fatalf("a packet of %d bytes came, want %d", len(what), size)
				}
				got = append(got, what...)
			}
			if !bytes.Equal(got, sent) {
				t.Error("the bytes came changed, or out of order")
			}
		})
	}
}

func TestTCPStaysWholeOnABadLink(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	site := addSite(t, l, natlab.SiteConfig{NAT: natlab.PortRestricted(), Link: natlab.Link{
		Delay: time.Millisecond, Jitter: time.Millisecond, Loss: 0.002, Reorder: 0.01,
	}})
	inside := addHost(t, site, "inside")
	ln, err := l.Self().Listen("tcp", net.JoinHostPort(l.Self().Addr().String(), "0"))
	check(t, err)
	defer func() { _ = ln.Close() }()
	sums := make(chan [32]byte, 1)
	go func() {
		defer close(sums)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		h := sha256.New()
		if _, err := io.Copy(h, conn); err == nil {
			sums <- [32]byte(h.Sum(nil))
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := inside.DialContext(ctx, "tcp", ln.Addr().String())
	check(t, err)
	data := make([]byte, 2<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	_, err = conn.Write(data)
	check(t, err)
	check(t, conn.Close())
	select {
	case got := <-sums:
		if got != sha256.Sum256(data) {
			t.Error("the bytes came changed, or not all of them")
		}
	case <-time.After(3 * patience):
		t.Error("the bytes do not arrive")
	}
	stats, err := site.LinkStats()
	check(t, err)
	t.Logf("%+v", stats)
}
