package rendezvous

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
)

// Server is a rendezvous. Make it with [New] and run it with [Server.Serve]. Its methods are safe for concurrent use.
type Server struct {
	cfg      Config
	rules    *rules
	registry *registry
	pending  *pending
	stun     *stunServer
	metrics  *metrics
	log      *zap.Logger

	nextPeer atomic.Uint64
	serving  atomic.Bool
	ready    atomic.Bool
	draining atomic.Bool
	drained  chan struct{} // closed by Shutdown: Serve is to end
	stopOne  sync.Once     // closes drained
	drainOne sync.Once
	done     chan struct{} // closed when Serve has returned
}

// errServing says that Serve was called twice.
var errServing = errors.New("rendezvous: this server has been served already")

// New checks the configuration and registers the metrics. It opens and sends
// nothing. After an error the sockets are still the caller's.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, err
	}
	r := &rules{
		clock: newClock(), window: cfg.Window, attemptTimeout: cfg.AttemptTimeout, maxAttempts: cfg.MaxAttempts,
		limits: cfg.Limits, metrics: m, budget: &budget{max: int64(cfg.Limits.MaxSessions)}, witness: protocol.NewWitnessSecret(),
	}
	return &Server{
		cfg: cfg, rules: r, registry: newRegistry(r, cfg.Logger), pending: newPending(cfg.Limits, m),
		stun:    &stunServer{rates: newSourceRates(cfg.Limits.STUNPerSecond, cfg.Limits.STUNPerSource, cfg.Limits.MaxSources), metrics: m, witness: r.witness, clock: r.clock},
		metrics: m, log: cfg.Logger, drained: make(chan struct{}), done: make(chan struct{}),
	}, nil
}

// Addr is the address of the main socket.
func (s *Server) Addr() net.Addr { return s.cfg.PacketConn.LocalAddr() }

// stunOnly are the sockets that answer nothing but STUN.
func (s *Server) stunOnly() map[stunSocket]net.PacketConn {
	out := make(map[stunSocket]net.PacketConn, 2)
	if c := s.cfg.AltPacketConn; c != nil {
		out[stunAlternate] = c
	}
	if c := s.cfg.OtherPacketConn; c != nil {
		out[stunOther] = c
	}
	return out
}

// Ready tells whether the server serves and is not draining.
func (s *Server) Ready() bool { return s.ready.Load() && !s.draining.Load() }

// Serve runs the server until ctx ends or Shutdown has drained it, and closes
// the sockets. It returns nil then, and an error if a socket failed. It can be
// called once.
func (s *Server) Serve(ctx context.Context) error {
	if !s.serving.CompareAndSwap(false, true) {
		return errServing
	}
	defer close(s.done)
	defer s.closeSockets()
	resetKey, tokenKey, err := quicKeys(s.cfg.Identity)
	if err != nil {
		return err
	}
	transport := &quic.Transport{
		Conn: s.cfg.PacketConn, VerifySourceAddress: s.pending.verifySource, ConnContext: s.pending.connContext,
		StatelessResetKey: &resetKey, TokenGeneratorKey: &tokenKey,
	}
	// The first call makes the queue; before it, quic-go drops what is not QUIC. From Ready on, STUN is answered.
	past, cancelPast := context.WithCancel(ctx)
	cancelPast()
	_, _, _ = transport.ReadNonQUICPacket(past, nil)
	listener, err := transport.Listen(s.tlsConfig(), s.quicConfig())
	if err != nil {
		return fmt.Errorf("rendezvous: listen for QUIC on %s: %w", s.Addr(), err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	eg, ctx := errgroup.WithContext(ctx)
	eg.Go(func() error { return s.accept(ctx, listener) })
	s.stun.ways[stunMain] = transport
	for at, c := range s.stunOnly() {
		s.stun.ways[at] = c
	}
	eg.Go(func() error { return s.stun.shared(ctx, transport) })
	for at, c := range s.stunOnly() {
		eg.Go(func() error { return s.stun.alone(c, at) })
	}
	if l := s.cfg.TCPListener; l != nil {
		eg.Go(func() error { return s.stun.serveTCP(ctx, l, s.cfg.Limits.MaxTCPConns) })
	}
	eg.Go(func() error {
		select {
		case <-ctx.Done():
		case <-s.drained:
		}
		cancel()
		for _, c := range s.stunOnly() {
			_ = c.Close()
		}
		return nil
	})
	s.ready.Store(true)
	s.log.Info("serving", zap.Stringer("udp", s.Addr()), zap.Stringer("pin", s.cfg.Identity.Fingerprint()))
	err = eg.Wait()
	s.ready.Store(false)
	s.registry.running.Wait()
	_ = listener.Close()
	_ = transport.Close()
	s.log.Info("stopped")
	if err != nil {
		return fmt.Errorf("rendezvous: %w", err)
	}
	return nil
}

func (s *Server) closeSockets() {
	_ = s.cfg.PacketConn.Close()
	for _, c := range s.stunOnly() {
		_ = c.Close()
	}
	if s.cfg.TCPListener != nil {
		_ = s.cfg.TCPListener.Close()
	}
}

// drainLinger lets the Drain messages leave before the connections are closed.
const drainLinger = 100 * time.Millisecond

// Shutdown drains the server: it refuses sign-ins and requests, tells the peers,
// lets the sessions that are on their way end, and makes Serve return. When ctx
// ends first, it does not wait for the sessions. It returns when Serve has.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	s.drainOne.Do(func() {
		s.log.Info("draining", zap.Int("unfinished_sessions", s.registry.unfinished()))
		s.registry.drain()
	})
	tick := time.NewTicker(drainLinger)
	defer tick.Stop()
	var err error
	for waiting := true; waiting; {
		select {
		case <-ctx.Done():
			waiting, err = false, ctx.Err()
		case <-s.done:
			return nil
		case <-tick.C:
			waiting = s.registry.unfinished() > 0
		}
	}
	s.stop()
	if s.serving.Load() {
		<-s.done
	}
	return err
}

func (s *Server) stop() { s.stopOne.Do(func() { close(s.drained) }) }

func (s *Server) tlsConfig() *tls.Config {
	// Any key will do: the token decides, and the peers check the key against the order.
	anyKey := func(identity.Fingerprint, tls.ConnectionState) error { return nil }
	return identity.ListenConfig(s.cfg.Identity, protocol.ALPNControl, anyKey)
}

// quicKeys derives the keys of QUIC's stateless resets and address tokens from
// the identity. They are then the same after a restart, and clients learn from
// their first packet that the old connection is gone (RFC 9000 section 10.3).
func quicKeys(id *identity.Identity) (reset quic.StatelessResetKey, tokens quic.TokenGeneratorKey, err error) {
	secret, err := x509.MarshalPKCS8PrivateKey(id.Certificate().PrivateKey)
	if err != nil {
		return reset, tokens, fmt.Errorf("rendezvous: derive QUIC keys: %w", err)
	}
	for info, key := range map[string][]byte{"bradawl stateless reset": reset[:], "bradawl address token": tokens[:]} {
		b, err := hkdf.Key(sha256.New, secret, nil, info, len(key))
		if err != nil {
			return reset, tokens, fmt.Errorf("rendezvous: derive QUIC keys: %w", err)
		}
		copy(key, b)
	}
	return reset, tokens, nil
}

func (s *Server) quicConfig() *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           5 * time.Second,
		MaxIdleTimeout:                 30 * time.Second,
		InitialStreamReceiveWindow:     32 << 10,
		MaxStreamReceiveWindow:         128 << 10,
		InitialConnectionReceiveWindow: 48 << 10,
		MaxConnectionReceiveWindow:     192 << 10,
		MaxIncomingStreams:             1,
		MaxIncomingUniStreams:          -1,
		EnableDatagrams:                true,
		DisablePathMTUDiscovery:        true, // control messages are small; probes of thousands of idle peers are not
		InitialPacketSize:              protocol.MinPathPacket,
	}
}
