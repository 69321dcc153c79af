// Package rendezvoustest runs a real rendezvous inside a test, as httptest does
// for HTTP: on loopback, or on a host of a network lab.
package rendezvoustest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/token"
	"github.com/bradawl/bradawl/server/rendezvous"
)

// Place is where a server listens; a natlab.Host is one. At a place that also has a method Addr6, which returns a valid
// address, the server listens on both.
type Place interface {
	Addr() netip.Addr
	ListenUDP(netip.AddrPort) (*net.UDPConn, error)
	Listen(network, address string) (net.Listener, error)
}

// Server is a rendezvous that can be stopped and started again, with the same keys and ports. Its methods may be
// called by one goroutine at a time; they end the test if something fails.
type Server struct {
	tb    testing.TB
	place Place
	tune  []func(*rendezvous.Config)
	key   ed25519.PrivateKey
	id    *identity.Identity
	main  netip.AddrPort // with its port once the server was started
	alt   netip.AddrPort

	stop func() // nil while it is stopped
}

// Start starts a server at the place, nil for loopback, and stops it with the test. tune, if given, changes its configuration.
func Start(tb testing.TB, place Place, tune ...func(*rendezvous.Config)) *Server {
	tb.Helper()
	if place == nil {
		place = loopback{}
	}
	s := &Server{tb: tb, place: place, tune: tune}
	var err error
	_, s.key, err = ed25519.GenerateKey(rand.Reader)
	s.check("make the signing key", err)
	s.id, err = identity.New()
	s.check("make the identity", err)
	any := place.Addr()
	if s.dual() {
		any = netip.IPv6Unspecified()
	}
	s.main, s.alt = netip.AddrPortFrom(any, 0), netip.AddrPortFrom(any, 0)
	s.Start()
	tb.Cleanup(s.Stop)
	return s
}

// dual tells whether the place has both families.
func (s *Server) dual() bool {
	p, ok := s.place.(interface{ Addr6() netip.Addr })
	return ok && p.Addr6().IsValid() && s.place.Addr().Is4()
}

// Start starts a stopped server again.
func (s *Server) Start() {
	s.tb.Helper()
	main, err := s.place.ListenUDP(s.main)
	s.check("open the main socket", err)
	alt, err := s.place.ListenUDP(s.alt)
	s.check("open the alternate socket", err)
	s.main, s.alt = localAddr(main), localAddr(alt)
	tcp, err := s.place.Listen("tcp", s.main.String())
	s.check("listen on TCP", err)
	cfg := rendezvous.Config{
		PacketConn: main, AltPacketConn: alt, TCPListener: tcp,
		Identity: s.id, Verifier: token.NewVerifier(s.key.Public().(ed25519.PublicKey)),
	}
	if s.dual() {
		v6 := s.place.(interface{ Addr6() netip.Addr }).Addr6()
		cfg.Addrs = []netip.AddrPort{s.Addr(), netip.AddrPortFrom(v6, s.main.Port())}
	}
	for _, f := range s.tune {
		f(&cfg)
	}
	server, err := rendezvous.New(cfg)
	s.check("make the rendezvous", err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := server.Serve(ctx); err != nil {
			s.tb.Errorf("rendezvous: %v", err)
		}
	})
	s.stop = func() {
		cancel()
		running.Wait()
	}
}

// Stop ends the server without draining it. Stopping a stopped server does nothing.
func (s *Server) Stop() {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

// Addr is the address of the main socket; where it serves both families, the IPv4 one.
func (s *Server) Addr() netip.AddrPort { return netip.AddrPortFrom(s.place.Addr(), s.main.Port()) }

// URL returns a connection string for all groups and names, valid for an hour.
func (s *Server) URL() string {
	s.tb.Helper()
	return s.URLWith(token.Claims{Group: "*", Name: "*", Expires: time.Now().Add(time.Hour)}, s.id.Fingerprint())
}

// URLWith returns a connection string with a token of these claims and these pins.
func (s *Server) URLWith(c token.Claims, pins ...identity.Fingerprint) string {
	s.tb.Helper()
	tok, err := token.Mint(s.key, c)
	s.check("mint a token", err)
	return protocol.URL{Token: tok, Host: s.Addr().String(), Pins: pins}.Secret()
}

// Pin is the fingerprint of the server's key.
func (s *Server) Pin() identity.Fingerprint { return s.id.Fingerprint() }

func (s *Server) check(what string, err error) {
	s.tb.Helper()
	if err != nil {
		s.tb.Fatalf("rendezvous for the test: %s: %v", what, err)
	}
}

func localAddr(c net.PacketConn) netip.AddrPort {
	a := c.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// loopback is the Place on 127.0.0.1.
type loopback struct{}

func (loopback) Addr() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

func (loopback) ListenUDP(a netip.AddrPort) (*net.UDPConn, error) {
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(a))
	if err != nil {
		return nil, fmt.Errorf("listen on loopback: %w", err)
	}
	return c, nil
}

func (loopback) Listen(network, address string) (net.Listener, error) {
	return net.Listen(network, address)
}
