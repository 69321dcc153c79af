package client

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/bradawl/bradawl/internal/clocksync"
	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/pb"
)

// maxUnaccepted bounds the connections that wait for Accept.
const maxUnaccepted = 1024

// Client is a peer that has signed in. Make it with [SignIn] and end it with
// Close. Its methods may be called from several goroutines at once.
type Client struct {
	cfg       settings
	identity  *identity.Identity
	clock     *clocksync.Clock
	peerQUIC  *quic.Config
	peerQUIC6 *quic.Config // for IPv6

	pc        net.PacketConn
	bound     netip.AddrPort
	hosts     []netip.AddrPort
	transport *quic.Transport
	listener  *quic.EarlyListener

	ctx    context.Context // ends with Close
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	sessions *sessions
	gate     gate
	inits    atomic.Uint64 // INITs that the socket has read, whoever they were for
	accepted *queue[*Conn]
	prepared prepared
	further  socketBudget
	guessing chan struct{} // held by the attempt that guesses ports

	mu       sync.Mutex
	closed   bool
	closeErr error
	closing  chan struct{} // closed when Close is through
	control  *control      // nil while signed out
	outSince time.Time     // when the control connection was lost
	outErr   error         // why the last sign-in failed
	dead     error         // the socket has died
	sentOff  *Error        // why the rendezvous does not want us back; Resume clears it
	changed  signal        // one of the above
	hurry    signal        // do not wait for the next sign-in
	lastID   uint64
	requests map[uint64]request
	groups   map[string]*Group
	conns    map[*Conn]struct{}
	observed netip.AddrPort // on the control connection
	second   netip.AddrPort // in the other family, as the server saw it; invalid: not
	local    netip.AddrPort
	windowed time.Duration
	nat      natResult
}

// SignIn opens the socket, signs in to the rendezvous and returns when it is
// accepted. The error is an [*Error]: unauthorized, udp_blocked (TCP reaches
// the server, UDP does not), server_unreachable, identity_mismatch (the pin),
// limited or canceled. After that the client keeps itself signed in until Close.
func SignIn(ctx context.Context, cfg Config) (*Client, error) {
	set, err := cfg.check()
	if err != nil {
		if cfg.PacketConn != nil {
			_ = cfg.PacketConn.Close()
		}
		return nil, &Error{Op: "sign in", Err: err}
	}
	c := &Client{
		cfg:      set,
		identity: cfg.Identity,
		clock:    clocksync.New(0),
		peerQUIC: peerQUICConfig(set),
		sessions: newSessions(),
		accepted: newQueue[*Conn](maxUnaccepted),
		prepared: prepared{ready: make(map[preparedFor]*readyOutlet)},
		guessing: make(chan struct{}, 1),
		closing:  make(chan struct{}),
		requests: make(map[uint64]request),
		groups:   make(map[string]*Group),
		conns:    make(map[*Conn]struct{}),
		windowed: protocol.DefaultWindow,
	}
	c.peerQUIC6 = c.peerQUIC.Clone()
	c.peerQUIC6.InitialPacketSize = protocol.MinPathPacket
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	if err := c.start(ctx); err != nil {
		c.cancel(err)
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Client) start(ctx context.Context) error {
	if c.identity == nil {
		id, err := identity.New()
		if err != nil {
			c.discardSocket()
			return &Error{Op: "sign in", Err: err}
		}
		c.identity = id
	}
	server, err := c.resolve(ctx)
	if err != nil {
		c.discardSocket()
		return err
	}
	if c.pc, err = openSocket(c.cfg); err != nil {
		return &Error{Op: "sign in", Detail: "cannot open a UDP socket", Err: err}
	}
	c.bound = boundTo(c.pc)
	c.hosts = hostAddrs(c.cfg, c.bound)
	if c.transport, c.listener, err = c.transportOn(c.pc); err != nil {
		return &Error{Op: "sign in", Detail: "cannot use the UDP socket", Err: err}
	}
	c.wg.Go(func() { c.readPackets(c.ctx, c.transport) })
	c.wg.Go(func() { c.acceptPeers(c.ctx, c.listener) })
	ctl, err := c.signIn(ctx, server, c.cfg.SignInTimeout)
	if err != nil {
		return err
	}
	c.local = c.localToward(ctl.server)
	c.adopt(ctl)
	c.wg.Go(func() { c.supervise(ctl) })
	return nil
}

// discardSocket closes a socket that was given to us before we could use it.
func (c *Client) discardSocket() {
	if c.cfg.PacketConn != nil {
		_ = c.cfg.PacketConn.Close()
	}
}

func (c *Client) resolve(ctx context.Context) (endpoints, error) {
	v4, v6 := true, true
	if c.cfg.PacketConn != nil {
		v4, v6 = families(boundTo(c.cfg.PacketConn))
	}
	server, err := resolve(ctx, c.cfg, v4, v6)
	switch {
	case err == nil:
		return server, nil
	case ctx.Err() != nil:
		return server, canceled(ctx, "sign in", "")
	}
	return server, &Error{Op: "sign in", Reason: protocol.ReasonServerUnreachable,
		Detail: "the server's name " + c.cfg.url.Host + " cannot be resolved", Err: err}
}

// localToward returns our own address as packets to the server carry it before any NAT.
func (c *Client) localToward(server netip.AddrPort) netip.AddrPort {
	if !c.bound.Addr().IsUnspecified() {
		return c.bound
	}
	if c.cfg.PacketConn == nil {
		// Connecting a UDP socket sends nothing, it only looks the route up.
		if u, err := net.DialUDP("udp", nil, udpAddr(server)); err == nil {
			defer u.Close()
			return netip.AddrPortFrom(addrPort(u.LocalAddr()).Addr(), c.bound.Port())
		}
	}
	for _, h := range c.hosts {
		if is4(h) == is4(server) {
			return h
		}
	}
	return c.bound
}

// Identity returns the key that this peer is known by.
func (c *Client) Identity() *identity.Identity { return c.identity }

// Self returns this peer as others see it.
func (c *Client) Self() Peer {
	return Peer{Name: c.cfg.Name, Role: c.cfg.Role, Fingerprint: c.identity.Fingerprint()}
}

// window is how far apart two peers may fire.
func (c *Client) window() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.windowed
}

// write sends one packet that is not QUIC's. A failure is as good as a lost packet.
func (c *Client) write(b []byte, to netip.AddrPort) {
	_, _ = c.transport.WriteTo(b, udpAddr(to))
}

func udpAddr(a netip.AddrPort) *net.UDPAddr { return net.UDPAddrFromAddrPort(a) }

// serverNanos translates an instant to the server's clock for a report; the zero Time is 0.
func (c *Client) serverNanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return c.clock.ServerTime(t)
}

// send sends a message if the client is signed in.
func (c *Client) send(m *pb.ClientMessage) {
	c.mu.Lock()
	ctl := c.control
	c.mu.Unlock()
	if ctl != nil {
		ctl.send(m)
	}
}

// newConn makes the Conn of a handshake that won. a.mu is held.
func (c *Client) newConn(a *attempt, qc *quic.Conn, pr *proof, began, now time.Time) *Conn {
	remote := addrPort(qc.RemoteAddr())
	local := addrPort(qc.LocalAddr())
	c.mu.Lock()
	defer c.mu.Unlock()
	if local.Addr().IsUnspecified() || !local.IsValid() {
		local = c.localFor(remote)
	}
	started := a.s.started
	if ask, ok := a.s.waiter().(*connectRequest); ok {
		started = ask.started
	}
	conn := &Conn{c: c, qc: qc, peer: a.s.peer, collective: a.s.collective, session: a.s, proof: pr, out: a.out}
	conn.info = ConnInfo{
		SessionID:         a.s.id,
		Replaces:          a.s.replaces,
		Dialler:           a.dialler,
		Path:              protocol.CandidateWord(a.p.kind(remote)),
		Strategy:          strategyName(a.strategy),
		Local:             local,
		Remote:            remote,
		Attempts:          a.n,
		Asked:             started,
		ConnectDuration:   now.Sub(started),
		PunchDuration:     now.Sub(a.ordered),
		HandshakeDuration: now.Sub(began),
		InitsOut:          a.p.initsOut,
		InitsIn:           a.p.initsIn,
		PeerMapping:       mappingFromPB(a.mapping),
	}
	conn.noteSkew(a.p)
	conn.ctx, conn.cancel = context.WithCancelCause(context.Background())
	c.conns[conn] = struct{}{}
	c.wg.Add(1)
	context.AfterFunc(qc.Context(), conn.ended)
	return conn
}

// connEnded forgets a connection; it is the last thing that happens to it.
func (c *Client) connEnded(conn *Conn, err error) {
	defer c.wg.Done()
	c.mu.Lock()
	delete(c.conns, conn)
	g := c.groups[conn.collective]
	c.mu.Unlock()
	c.accepted.take(func(q *Conn) bool { return q == conn })
	c.sessions.connEnded(conn.session, conn)
	if conn.out != nil {
		c.wg.Go(conn.out.closeLater)
	}
	c.emit(Event{Kind: EventPeerLost, Session: conn.info.SessionID, Peer: conn.peer.Name, Addr: conn.info.Remote, Err: err})
	if g != nil {
		g.ended(conn, err)
	}
}

// Close leaves: it tells the rendezvous and all peers, ends every connection
// and the socket, and waits for all goroutines. Calls after the first wait for it.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		<-c.closing
		return c.closeErr
	}
	c.closed = true
	c.changed.broadcast()
	ctl := c.control
	c.control = nil
	conns := make([]*Conn, 0, len(c.conns))
	for conn := range c.conns {
		conns = append(conns, conn)
	}
	requests := c.requests
	c.requests = make(map[uint64]request)
	c.mu.Unlock()

	for _, r := range requests {
		r.refuse(closedError("", ""))
	}
	c.accepted.close(closedError("accept", ""), false)
	var wg sync.WaitGroup
	for _, conn := range conns {
		wg.Go(func() { _ = conn.Close() }) // each tells its peer
	}
	wg.Wait()
	if ctl != nil {
		ctl.leave()
	}
	c.cancel(ErrClosed)
	if c.listener != nil {
		_ = c.listener.Close()
	}
	c.closeLate()
	var err error
	if c.transport != nil {
		err = c.transport.Close()
	}
	if c.pc != nil {
		if cerr := c.pc.Close(); err == nil {
			err = cerr
		}
	}
	c.wg.Wait()
	c.closeErr = err
	close(c.closing)
	return err
}

// closeLate closes connections that came about while Close was at work.
func (c *Client) closeLate() {
	c.mu.Lock()
	conns := c.conns
	c.conns = make(map[*Conn]struct{})
	c.mu.Unlock()
	for conn := range conns {
		_ = conn.Close()
	}
}
