package main

import (
	"context"
	"crypto/tls"
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
	// bareBurst is how many dials each process of the second baseline has under way at once.
	bareBurst = 8
)

// bare is quic-go alone: every peer knows the others' mapped addresses and keys, and all NATs are open before the time
// begins to count. Only the handshakes are left, mutual TLS with pinned keys as ours.
type bare struct {
	setup
	id        *identity.Identity
	transport *quic.Transport
	listener  *quic.Listener
	pc        *net.UDPConn
	targets   []target

	mu    sync.Mutex
	known map[identity.Fingerprint]bool
	conns []*quic.Conn
}

func (b *bare) prepare(context.Context) (ready, error) {
	addr, err := netip.ParseAddr(b.Addr)
	if err != nil {
		return ready{}, err
	}
	if b.pc, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0))); err != nil {
		return ready{}, err
	}
	if b.id, err = identity.New(); err != nil {
		return ready{}, err
	}
	b.transport = &quic.Transport{Conn: b.pc}
	conf := identity.ListenConfig(b.id, bareALPN, func(got identity.Fingerprint, _ tls.ConnectionState) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.known[got] {
			return &identity.PinError{Got: got}
		}
		return nil
	})
	conf.CurvePreferences = []tls.CurveID{tls.CurveP256}
	if b.listener, err = b.transport.Listen(conf, b.config()); err != nil {
		return ready{}, err
	}
	f := b.id.Fingerprint()
	return ready{Port: uint16(b.pc.LocalAddr().(*net.UDPAddr).Port), Fingerprint: f[:]}, nil
}

func (b *bare) config() *quic.Config {
	return &quic.Config{HandshakeIdleTimeout: b.Timeout, MaxIdleTimeout: b.Timeout, EnableDatagrams: true}
}

func (b *bare) open(targets []target) error {
	b.targets = targets
	b.known = make(map[identity.Fingerprint]bool)
	for i, t := range targets {
		f, err := identity.FingerprintFromBytes(t.Fingerprint)
		if err != nil {
			return err
		}
		b.known[f] = true
		to, err := netip.ParseAddrPort(t.Addr)
		if err != nil {
			return err
		}
		if _, err := b.transport.WriteTo([]byte{0}, net.UDPAddrFromAddrPort(to)); err != nil {
			return err
		}
		if i%32 == 31 {
			time.Sleep(time.Millisecond) // they must not drown one another
		}
	}
	return nil
}

func (b *bare) run(ctx context.Context) (d done) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	note := func(qc *quic.Conn, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			d.Links++
			b.mu.Lock()
			b.conns = append(b.conns, qc)
			b.mu.Unlock()
			return
		}
		d.Failures++
		if d.Err == "" {
			d.Err = err.Error()
		}
	}
	incoming := 0
	var slots chan struct{}
	if b.AtOnce > 0 {
		slots = make(chan struct{}, b.AtOnce)
	}
	wg.Go(func() {
		for _, t := range b.targets {
			if t.Dial {
				if slots != nil {
					slots <- struct{}{}
				}
				wg.Go(func() {
					note(b.dial(ctx, t))
					if slots != nil {
						<-slots
					}
				})
			}
		}
	})
	for _, t := range b.targets {
		if !t.Dial {
			incoming++
		}
	}
	for range incoming {
		qc, err := b.listener.Accept(ctx)
		note(qc, err)
	}
	wg.Wait()
	d.Attempts = d.Links
	return d
}

func (b *bare) dial(ctx context.Context, t target) (*quic.Conn, error) {
	f, err := identity.FingerprintFromBytes(t.Fingerprint)
	if err != nil {
		return nil, err
	}
	to, err := netip.ParseAddrPort(t.Addr)
	if err != nil {
		return nil, err
	}
	conf := identity.DialConfig(b.id, "", bareALPN, f)
	conf.CurvePreferences = []tls.CurveID{tls.CurveP256}
	return b.transport.Dial(ctx, net.UDPAddrFromAddrPort(to), conf, b.config())
}

func (b *bare) close() {
	if b.listener != nil {
		_ = b.listener.Close()
	}
	if b.transport != nil {
		_ = b.transport.Close()
	}
	if b.pc != nil {
		_ = b.pc.Close()
	}
}
