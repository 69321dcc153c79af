package client_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/protocol/identity"
)

const (
	transferBytes = 192 << 20 // of one round
	transferChunk = 128 << 10 // one Write
)

// rival is a way from one host to another, through the NATs of both.
type rival struct {
	name string
	// open and accept are the ends of one stream.
	open   func(ctx context.Context) (io.WriteCloser, error)
	accept func(ctx context.Context) (io.Reader, error)
	// streams is false where there is only one.
	streams bool
	chunk   int

	rate, cpu []float64 // MB/s, CPU seconds per GB; one of each round
}

// transfer sends n bytes on so many streams and waits until they were read.
func (r *rival) transfer(ctx context.Context, n, streams int) error {
	g, ctx := errgroup.WithContext(ctx)
	for range streams {
		g.Go(func() error {
			s, err := r.open(ctx)
			if err != nil {
				return err
			}
			buf := make([]byte, cmp.Or(r.chunk, transferChunk))
			for left := n / streams; left > 0; left -= len(buf) {
				if _, err := s.Write(buf[:min(left, len(buf))]); err != nil {
					return err
				}
			}
			return s.Close()
		})
		g.Go(func() error {
			s, err := r.accept(ctx)
			if err != nil {
				return err
			}
			got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{s}, make([]byte, transferChunk))
			if err == nil && got != int64(n/streams) {
				err = fmt.Errorf("%d bytes of %d arrived", got, n/streams)
			}
			return err
		})
	}
	return g.Wait()
}

// race lets the rivals transfer in turn, once per iteration, and reports the
// median of each and the median of its ratio to the rival named "bare" in the
// same round. Both ends run in this process: the CPU time is that of both, with the kernel's.
func race(b *testing.B, streams int, rivals []*rival) {
	ctx := within(b, 10*time.Minute)
	for b.Loop() {
		for _, r := range rivals {
			cpu, start := cpuTime(), time.Now()
			if err := r.transfer(ctx, transferBytes, streams); err != nil {
				b.Fatalf("%s: %v", r.name, err)
			}
			r.rate = append(r.rate, transferBytes/1e6/time.Since(start).Seconds())
			r.cpu = append(r.cpu, (cpuTime()-cpu).Seconds()/(transferBytes/1e9))
		}
	}
	bare := rivals[slices.IndexFunc(rivals, func(r *rival) bool { return r.name == "bare" })]
	var table strings.Builder
	fmt.Fprintf(&table, "%d streams, %d rounds of %d MiB\n%-28s %8s %7s %9s %7s\n", streams, len(bare.rate), transferBytes>>20,
		"", "MB/s", "/bare", "CPU s/GB", "/bare")
	for _, r := range rivals {
		rate, cpu := ratio(r.rate, bare.rate), ratio(r.cpu, bare.cpu)
		fmt.Fprintf(&table, "%-28s %8.0f %7.2f %9.2f %7.2f\n", r.name, median(r.rate), rate, median(r.cpu), cpu)
		b.ReportMetric(median(r.rate), r.name+"-MB/s")
		b.ReportMetric(median(r.cpu), r.name+"-cpu-s/GB")
	}
	fmt.Println(table.String()) // b.Log cuts long tables off
}

func ratio(of, to []float64) float64 {
	r := make([]float64, len(of))
	for i := range of {
		r[i] = of[i] / to[i]
	}
	return median(r)
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

func cpuTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // cannot fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// track is a lab with two hosts behind port-restricted NATs, whose ports are kept.
type track struct {
	*world
	link  []natlab.Link
	sites [2]*natlab.Site
	hosts [2]*natlab.Host
	id    *identity.Identity
}

func newTrack(b *testing.B, link ...natlab.Link) *track {
	t := &track{world: newWorld(b), link: link}
	for i := range t.hosts {
		t.sites[i] = t.site(fmt.Sprint("site ", i), natlab.PortRestricted(), link...)
		var err error
		t.hosts[i], err = t.sites[i].AddHost("host")
		must(b, err)
	}
	var err error
	t.id, err = identity.New()
	must(b, err)
	return t
}

// plain hides what a socket can do beside what quic-go uses by itself.
type plain struct{ *net.UDPConn }

// ours signs two clients in and connects them.
func (t *track) ours(name string, change ...func(*client.Config)) *rival {
	t.t.Helper()
	from, to := t.client(t.hosts[0], name+" a", change...), t.client(t.hosts[1], name+" b", change...)
	r, _ := t.join(name, from, to, name+" b")
	return r
}

// join connects two clients.
func (t *track) join(name string, from, to *client.Client, peer string) (*rival, *client.Conn) {
	t.t.Helper()
	ctx := within(t.t, 10*time.Second)
	out, err := from.Connect(ctx, peer)
	must(t.t, err)
	in, err := to.Accept(ctx)
	must(t.t, err)
	must(t.t, out.Proven(ctx))
	must(t.t, in.Proven(ctx))
	return &rival{name: name, streams: true,
		open:   func(ctx context.Context) (io.WriteCloser, error) { return out.OpenUniStream(ctx) },
		accept: func(ctx context.Context) (io.Reader, error) { return in.AcceptUniStream(ctx) },
	}, out
}

// bare connects two quic-go transports that know each other's mapping.
func (t *track) bare(name string, cfg *quic.Config, wrap func(net.PacketConn) net.PacketConn) *rival {
	t.t.Helper()
	var pc [2]*net.UDPConn
	var tr [2]*quic.Transport
	var mapped [2]*net.UDPAddr
	for i := range pc {
		var err error
		pc[i], err = t.hosts[i].ListenUDP(netip.AddrPort{})
		must(t.t, err)
		port := pc[i].LocalAddr().(*net.UDPAddr).AddrPort().Port()
		mapped[i] = net.UDPAddrFromAddrPort(netip.AddrPortFrom(t.sites[i].PublicAddr(), port))
		tr[i] = &quic.Transport{Conn: pc[i]}
		if wrap != nil {
			tr[i].Conn = wrap(pc[i])
		}
		t.t.Cleanup(func() { _ = tr[i].Close(); _ = pc[i].Close() })
	}
	listen := identity.ListenConfig(t.id, "throughput", func(identity.Fingerprint, tls.ConnectionState) error { return nil })
	ln, err := tr[1].Listen(listen, cfg)
	must(t.t, err)
	_, err = tr[1].WriteTo([]byte{0}, mapped[0]) // opens the NAT
	must(t.t, err)
	ctx := within(t.t, 10*time.Second)
	out, err := tr[0].Dial(ctx, mapped[1], identity.DialConfig(t.id, "peer", "throughput", t.id.Fingerprint()), cfg)
	must(t.t, err)
	in, err := ln.Accept(ctx)
	must(t.t, err)
	return &rival{name: name, streams: true,
		open:   func(ctx context.Context) (io.WriteCloser, error) { return out.OpenUniStreamSync(ctx) },
		accept: func(ctx context.Context) (io.Reader, error) { return in.AcceptUniStream(ctx) },
	}
}

// tcp connects by TCP's simultaneous open through both NATs, with TLS 1.3 on top. There is one stream
// only, so that each transfer sends its length by closing: it makes a connection per transfer, not timed apart.
func (t *track) tcp(name string) *rival {
	t.t.Helper()
	var next uint16 = 20000
	type pairOf struct{ a, b net.Conn }
	punch := func(ctx context.Context) (pairOf, error) {
		next++
		port := next
		var p pairOf
		g, ctx := errgroup.WithContext(ctx)
		for i, to := range []*net.Conn{&p.a, &p.b} {
			g.Go(func() error {
				d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(t.hosts[i].Addr(), port)),
					Control: func(_, _ string, c syscall.RawConn) (err error) {
						_ = c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
						return err
					}}
				d.SetMultipathTCP(false)
				target := netip.AddrPortFrom(t.sites[1-i].PublicAddr(), port).String()
				for {
					err := t.hosts[i].Do(func() (err error) {
						*to, err = d.DialContext(ctx, "tcp4", target)
						return err
					})
					if err == nil || ctx.Err() != nil {
						return err
					}
				}
			})
		}
		return p, g.Wait()
	}
	listen := identity.ListenConfig(t.id, "throughput", func(identity.Fingerprint, tls.ConnectionState) error { return nil })
	ready := make(chan *tls.Conn, 1)
	return &rival{name: name,
		open: func(ctx context.Context) (io.WriteCloser, error) {
			p, err := punch(ctx)
			if err != nil {
				return nil, err
			}
			ready <- tls.Server(p.b, listen)
			return tls.Client(p.a, identity.DialConfig(t.id, "peer", "throughput", t.id.Fingerprint())), nil
		},
		accept: func(ctx context.Context) (io.Reader, error) {
			select {
			case c := <-ready:
				return c, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
	}
}

// BenchmarkThroughput sends one way from host to host, each behind a
// port-restricted NAT of the kernel, over one connection.
func BenchmarkThroughput(b *testing.B) {
	for _, streams := range []int{1, 8} {
		b.Run(fmt.Sprint(streams), func(b *testing.B) {
			t := newTrack(b)
			rivals := []*rival{
				t.bare("bare", client.DefaultQUIC(), nil),
				t.ours("ours"),
				t.ours("ours-no-GRO", func(c *client.Config) { c.PacketConn = plain{c.PacketConn.(*net.UDPConn)} }),
			}
			if streams == 1 {
				rivals = append(rivals, t.tcp("tcp-tls"))
			}
			race(b, streams, rivals)
		})
	}
}

// BenchmarkThroughputKnobs sets one thing at a time and puts each beside bare quic-go with the client's windows.
func BenchmarkThroughputKnobs(b *testing.B) {
	t := newTrack(b)
	with := func(change func(*quic.Config)) *quic.Config {
		c := client.DefaultQUIC()
		change(c)
		return c
	}
	joined := client.ReceiveCoalesced
	rivals := []*rival{
		t.bare("bare", client.DefaultQUIC(), nil),
		t.bare("GRO", client.DefaultQUIC(), joined),
		t.bare("GRO,largest-packets-at-once", with(func(c *quic.Config) { c.InitialPacketSize = 1452 }), joined),
		t.bare("GRO,quic-go's-windows", &quic.Config{KeepAlivePeriod: 4 * time.Second}, joined),
		t.bare("GRO,windows-full-at-once", with(func(c *quic.Config) {
			c.InitialStreamReceiveWindow, c.InitialConnectionReceiveWindow = c.MaxStreamReceiveWindow, c.MaxConnectionReceiveWindow
		}), joined),
		t.bare("GRO,small-packets", with(func(c *quic.Config) { c.InitialPacketSize, c.DisablePathMTUDiscovery = 1200, true }), joined),
		t.bare("GRO,writes-4-KiB", client.DefaultQUIC(), joined),
		t.bare("GRO,writes-32-KiB", client.DefaultQUIC(), joined),
		t.bare("GRO,writes-1-MiB", client.DefaultQUIC(), joined),
	}
	rivals[6].chunk, rivals[7].chunk, rivals[8].chunk = 4<<10, 32<<10, 1<<20
	b.Setenv("QUIC_GO_DISABLE_ECN", "true")
	rivals = append(rivals, t.bare("GRO,no-ECN", client.DefaultQUIC(), joined))
	b.Setenv("QUIC_GO_DISABLE_ECN", "")
	b.Setenv("QUIC_GO_DISABLE_GSO", "true")
	rivals = append(rivals, t.bare("GRO,no-GSO", client.DefaultQUIC(), joined))
	race(b, 1, rivals)
}
