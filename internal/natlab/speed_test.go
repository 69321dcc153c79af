package natlab_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/bradawl/bradawl/internal/natlab"
)

// BenchmarkNewLab builds what the demo needs: 12 sites with a host each, and 3 public hosts.
func BenchmarkNewLab(b *testing.B) {
	natlab.Require(b)
	var building, closing time.Duration
	for b.Loop() {
		start := time.Now()
		l, err := natlab.New(natlab.Config{})
		check(b, err)
		for i := range 3 {
			addHost(b, l, fmt.Sprint("public ", i))
		}
		for i := range 12 {
			addHost(b, addSite(b, l, natlab.SiteConfig{Name: fmt.Sprint(i), NAT: natlab.PortRestricted()}), "host")
		}
		building += time.Since(start)
		start = time.Now()
		check(b, l.Close())
		closing += time.Since(start)
	}
	b.ReportMetric(building.Seconds()*1e3/float64(b.N), "build-ms")
	b.ReportMetric(closing.Seconds()*1e3/float64(b.N), "close-ms")
}

// BenchmarkTCPThroughNAT sends from behind a NAT to a public host.
func BenchmarkTCPThroughNAT(b *testing.B) {
	for name, link := range map[string]natlab.Link{
		"kernel":    {},
		"forwarder": {Delay: 250 * time.Microsecond},
	} {
		b.Run(name, func(b *testing.B) {
			l := newLab(b)
			site := addSite(b, l, natlab.SiteConfig{NAT: natlab.PortRestricted(), Link: link})
			inside, outside := addHost(b, site, "inside"), addHost(b, l, "outside")
			ln, err := outside.Listen("tcp", net.JoinHostPort(outside.Addr().String(), "0"))
			check(b, err)
			defer func() { _ = ln.Close() }()
			received := make(chan int64)
			go func() {
				conn, err := ln.Accept()
				if err != nil {
					close(received)
					return
				}
				n, _ := io.Copy(io.Discard, conn)
				_ = conn.Close()
				received <- n
			}()
			conn, err := inside.DialContext(context.Background(), "tcp", ln.Addr().String())
			check(b, err)
			chunk := make([]byte, 1<<20)
			b.SetBytes(int64(len(chunk)))
			sent := int64(0)
			for b.Loop() {
				n, err := conn.Write(chunk)
				check(b, err)
				sent += int64(n)
			}
			check(b, conn.Close())
			if got := <-received; got != sent {
				b.Fatalf("received %d bytes of %d", got, sent)
			}
		})
	}
}
