package main

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/bradawl/bradawl/protocol/identity"
)

const (
	bareName = "bare quic-go"
	bareALPN = "bare"
	// bareAgain is when b opens its NAT again, in case the packet before was lost.
	bareAgain = 20 * time.Millisecond
)

// bare is two quic-go programs that already know each other's mapped address
// and key: both send at the same instant, a its first flight and b one
// packet that opens b's NAT. It needs no rendezvous, so the time to reach one is not in it.
type bare struct {
	w          *world
	title      string
	idA, idB   *identity.Identity
	curves     []tls.CurveID
	pc         *net.UDPConn // b's
	transportB *quic.Transport
	listener   *quic.Listener
	serving    sync.WaitGroup
}

// newBare has quic-go's and crypto/tls's defaults.
func newBare(w *world) (contestant, error) { return makeBare(w, bareName, nil) }

// newBareX25519 has a ClientHello of one packet.
func newBareX25519(w *world) (contestant, error) {
	return makeBare(w, bareName+" X25519", []tls.CurveID{tls.X25519})
}

func makeBare(w *world, title string, curves []tls.CurveID) (contestant, error) {
	b := &bare{w: w, title: title, curves: curves}
	var err error
	if b.idA, err = identity.New(); err != nil {
		return nil, err
	}
	if b.idB, err = identity.New(); err != nil {
		return nil, err
	}
	if b.pc, err = w.b.ListenUDP(netip.AddrPort{}); err != nil {
		return nil, err
	}
	verify := func(got identity.Fingerprint, _ tls.ConnectionState) error {
		if want := b.idA.Fingerprint(); got != want {
			return &identity.PinError{Got: got, Want: []identity.Fingerprint{want}}
		}
		return nil
	}
	conf := identity.ListenConfig(b.idB, bareALPN, verify)
	conf.CurvePreferences = curves
	b.transportB = &quic.Transport{Conn: b.pc}
	if b.listener, err = b.transportB.Listen(conf, &quic.Config{}); err != nil {
		_ = b.pc.Close()
		return nil, err
	}
	b.serving.Go(b.serve)
	return b, nil
}

func (b *bare) serve() {
	for {
		qc, err := b.listener.Accept(context.Background()) // ends with the listener
		if err != nil {
			return
		}
		b.serving.Go(func() {
			if s, err := qc.AcceptStream(qc.Context()); err == nil {
				_, _ = io.Copy(s, s)
				_ = s.Close()
			}
		})
	}
}

func (b *bare) name() string { return b.title }

func (b *bare) attempt(ctx context.Context, start func()) (sample, error) {
	pc, err := b.w.socketA()
	if err != nil {
		return sample{}, err
	}
	defer pc.Close()
	transport := &quic.Transport{Conn: pc}
	defer transport.Close()
	conf := identity.DialConfig(b.idA, "", bareALPN, b.idB.Fingerprint())
	conf.CurvePreferences = b.curves
	toA, toB := net.UDPAddrFromAddrPort(mapped(b.w.siteA, pc)), net.UDPAddrFromAddrPort(mapped(b.w.siteB, b.pc))
	ctx, cancel := context.WithCancel(ctx)
	var opening sync.WaitGroup
	defer opening.Wait()
	defer cancel()

	start()
	began := time.Now()
	_, _ = b.transportB.WriteTo([]byte{0}, toA)
	opening.Go(func() { b.keepOpen(ctx, toA) })
	qc, err := transport.Dial(ctx, toB, conf, &quic.Config{HandshakeIdleTimeout: 10 * time.Second})
	if err != nil {
		return sample{}, err
	}
	defer func() { _ = qc.CloseWithError(0, "") }()
	s, err := qc.OpenStreamSync(ctx)
	if err != nil {
		return sample{}, err
	}
	got := sample{stream: time.Since(began)}
	if err := echoByte(ctx, s); err != nil {
		return sample{}, err
	}
	got.echo = time.Since(began)
	return got, nil
}

// keepOpen repeats what opens b's NAT; without loss the first one is enough.
func (b *bare) keepOpen(ctx context.Context, toA net.Addr) {
	if b.w.Loss == 0 {
		return
	}
	again := time.NewTicker(bareAgain)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-again.C:
			_, _ = b.transportB.WriteTo([]byte{0}, toA)
		}
	}
}

func (b *bare) close() error {
	_ = b.listener.Close()
	err := b.transportB.Close()
	b.serving.Wait()
	_ = b.pc.Close()
	return err
}
