package client

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/pb"
)

// maxHandshakes bounds the handshakes that one listening attempt takes part in.
const maxHandshakes = 2 * maxDials

// minPause keeps an attempt from spinning.
const minPause = 500 * time.Microsecond

// attempt runs one try of a session: it does what its punch decides.
type attempt struct {
	c       *Client
	s       *session
	n       uint32
	key     protocol.SessionKey
	dialler bool
	mapping pb.MappingBehavior // the peer's
	ordered time.Time
	// Both configurations are made as the order comes in, so that no packet waits for them; one is used.
	dialTLS, listenTLS *tls.Config

	strategy pb.Strategy
	fire     time.Time
	sockets  int            // of MANY_SOCKETS
	target   netip.AddrPort // of their INITs
	fireNow  chan struct{}  // closed when they may fire before fire
	fireOnce sync.Once
	// giveUp and quiet count from when they have fired.
	giveUp, quiet time.Duration
	guess         *guesses // of GUESSED_PORTS and PREDICTED_PORTS

	ctx    context.Context
	cancel context.CancelCauseFunc
	// working ends, by rest, as soon as no more INITs are needed.
	working context.Context
	rest    context.CancelFunc
	wake    chan struct{} // holds one

	pass *pass // of the sessions of a large order that dial; nil: free to

	expecting []netip.AddrPort // guarded by sessions.mu

	mu         sync.Mutex
	p          *punch
	out        *outlet // the socket; nil: the client's own, or with MANY_SOCKETS not yet known
	tids       [][12]byte
	handshakes int
	mismatch   error // somebody proved a wrong key
	conn       *Conn // the handshake that won
	handshake  time.Time
	over       bool
	err        *Error // why, if it failed
}

func (c *Client) newAttempt(s *session, o order, now time.Time) *attempt {
	a := &attempt{c: c, s: s, n: o.attempt, key: o.key, dialler: o.dialler, mapping: o.mapping, ordered: now, wake: make(chan struct{}, 1)}
	a.ctx, a.cancel = context.WithCancelCause(c.ctx)
	a.working, a.rest = context.WithCancel(a.ctx)
	a.strategy, a.sockets, a.guess = o.strategy, o.sockets, o.guess
	if a.sockets > 0 {
		a.target = o.candidates[0].addr
		a.fireNow = make(chan struct{})
		a.giveUp, a.quiet = o.giveUp, o.quiet
	}
	fire := now
	if o.fireAt != 0 {
		fire = c.clock.LocalTime(o.fireAt)
		if hold := now.Add(maxHold); fire.After(hold) {
			fire = hold
		}
	}
	start := fire
	if start.Before(now) {
		start = now
	}
	a.fire = fire
	a.p = newPunch(o.dialler, o.candidates, fire, start.Add(o.giveUp))
	a.p.hush = start.Add(o.quiet)
	if a.sockets > 0 { // opening them may take its time
		a.p.deadline = start.Add(o.giveUp + manySlack)
		a.p.hush = a.p.deadline
	}
	if at := (preparedFor{s.id, o.attempt}); o.prepared {
		a.out = c.prepared.take(at)
	} else if unused := c.prepared.take(at); unused != nil {
		c.wg.Go(unused.close)
	}
	a.p.slack = time.Duration(o.beside) * handshakeCost
	if o.beside >= burstAbove {
		a.p.slack = max(a.p.slack, gateSlack)
		if o.dialler {
			a.pass = &pass{wake: a.poke}
		}
	}
	// Without the post-quantum hybrid the ClientHello fits into one packet; one lost packet costs 200 ms here. P-256 is the
	// quickest of what is left: both sides compute less before the handshake is through.
	if a.dialler {
		a.dialTLS = identity.DialConfig(c.identity, serverName(s.id), protocol.ALPNPeer, s.peer.Fingerprint)
		a.dialTLS.CurvePreferences = []tls.CurveID{tls.CurveP256}
	} else {
		a.listenTLS = identity.ListenConfig(c.identity, protocol.ALPNPeer, a.verify)
		a.listenTLS.CurvePreferences = []tls.CurveID{tls.CurveP256, tls.X25519}
	}
	return a
}

// verify pins the dialler's key.
func (a *attempt) verify(got identity.Fingerprint, _ tls.ConnectionState) error {
	want := a.s.peer.Fingerprint
	if got == want {
		return nil
	}
	err := &identity.PinError{Got: got, Want: []identity.Fingerprint{want}}
	a.mu.Lock()
	a.mismatch = err
	a.mu.Unlock()
	return err
}

func (a *attempt) admitHandshake() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.handshakes++
	a.p.hush = a.p.deadline // somebody has come in
	return !a.over && a.handshakes <= maxHandshakes
}

// step sends the INITs that are due and dials if it is time to. Any goroutine may call it.
func (a *attempt) step(now time.Time) {
	a.mu.Lock()
	if a.over || a.socketless() {
		a.mu.Unlock()
		return
	}
	inits := a.p.inits(now)
	var to netip.AddrPort
	dial := false
	if a.pass == nil || a.p.dialable() && a.c.gate.enter(a.pass, now) {
		to, dial = a.p.dial(now)
	}
	for _, i := range inits {
		a.tids = append(a.tids, i.tid)
	}
	a.mu.Unlock()
	if !dial {
		a.sendInits(inits)
		return
	}
	// The first flight opens the hole as well as an INIT does, and is what the connection waits for: no packet goes
	// before it. The scheduler runs the newest goroutine first.
	if len(inits) > 0 {
		a.expectAnswers(inits)
		a.c.wg.Go(func() { a.writeInits(inits) })
	}
	a.c.wg.Go(func() { a.dial(to) })
}

func (a *attempt) sendInits(inits []outInit) {
	a.expectAnswers(inits)
	a.writeInits(inits)
}

// expectAnswers is not called with the lock held.
func (a *attempt) expectAnswers(inits []outInit) {
	for _, i := range inits {
		a.c.sessions.sent(i.tid, a)
	}
	a.mu.Lock()
	over := a.over
	a.mu.Unlock()
	if !over {
		return
	}
	for _, i := range inits { // the attempt has ended since they were made, and its end has forgotten nothing that came later
		a.c.sessions.forget(i.tid)
	}
}

func (a *attempt) writeInits(inits []outInit) {
	for _, i := range inits {
		b, err := protocol.AppendInit(nil, i.tid, a.s.id, a.c.cfg.Name, a.key)
		if err != nil {
			return // the name was checked at sign-in
		}
		a.write(b, i.to)
		a.c.emit(Event{Kind: EventInitOut, Session: a.s.id, Peer: a.s.peer.Name, Attempt: a.n, Addr: i.to})
	}
}

// socketless tells whether it is not yet known which of many sockets is the attempt's. The lock is held.
func (a *attempt) socketless() bool { return a.sockets > 0 && a.out == nil }

// transport returns what the attempt sends and dials by.
func (a *attempt) transport() *quic.Transport {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.out != nil {
		return a.out.transport
	}
	return a.c.transport
}

// write sends one packet that is not QUIC's. A failure is as good as a lost packet.
func (a *attempt) write(b []byte, to netip.AddrPort) { _, _ = a.transport().WriteTo(b, udpAddr(to)) }

// release closes the attempt's own socket unless a connection uses it.
func (a *attempt) release() {
	a.mu.Lock()
	out := a.out
	if a.conn != nil {
		out = nil
	}
	a.mu.Unlock()
	if out != nil {
		out.close()
	}
}

// leaveGate lets another attempt dial; rtt is the path's if there is a connection, else 0.
func (a *attempt) leaveGate(rtt time.Duration) {
	if a.pass != nil {
		a.c.gate.leave(a.pass, time.Now(), rtt)
	}
}

// poke makes run look at the state again.
func (a *attempt) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// heard takes an INIT that names this session.
func (a *attempt) heard(now time.Time, from netip.AddrPort, r protocol.Request, by *quic.Transport) {
	if r.From != a.s.peer.Name || r.Verify(a.key) != nil {
		return
	}
	a.mu.Lock()
	if a.over {
		a.mu.Unlock()
		return
	}
	known := a.p.expects(from)
	answer, also := a.p.heardInit(now, from, r.TransactionID)
	for _, i := range also {
		a.tids = append(a.tids, i.tid)
	}
	a.mu.Unlock()
	if !answer {
		return
	}
	if !known {
		a.c.sessions.expectAlso(a, from)
	}
	if b, err := protocol.AppendBindingResponse(nil, r.TransactionID, from, &a.key); err == nil {
		_, _ = by.WriteTo(b, udpAddr(from))
	}
	a.sendInits(also)
	a.c.emit(Event{Kind: EventInitIn, Session: a.s.id, Peer: a.s.peer.Name, Attempt: a.n, Addr: from})
	a.step(now)
	a.poke()
}

// response takes the answer to an INIT of this attempt.
func (a *attempt) response(now time.Time, from netip.AddrPort, r protocol.Response) {
	if r.Verify(a.key) != nil {
		return
	}
	a.mu.Lock()
	if a.over {
		a.mu.Unlock()
		return
	}
	rtt, ok := a.p.heardResponse(now, from, r.TransactionID)
	a.mu.Unlock()
	if !ok {
		return
	}
	a.c.emit(Event{Kind: EventInitAnswered, Session: a.s.id, Peer: a.s.peer.Name, Attempt: a.n, Addr: from, Delay: rtt})
	a.step(now)
	a.poke()
}

// run paces the attempt until it is over, and waits for what follows a failed one.
func (a *attempt) run() {
	defer a.release()
	defer a.cancel(nil)
	defer a.leaveGate(0)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer a.rest()
	switch {
	case a.sockets > 0:
		workers.Go(a.runMany)
	case a.guess != nil:
		workers.Go(a.sendGuesses)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		a.step(now)
		a.mu.Lock()
		over, err, conn, next, deadline := a.over, a.err, a.conn, a.p.next(), a.p.ends()
		if a.handshakes > 0 && !now.Before(a.p.deadline) {
			// The dialler may have its connection already: cutting it off now would be worse than waiting.
			deadline = a.p.deadline.Add(handshakeLimit)
			next = deadline
		}
		if a.socketless() {
			next = deadline
		}
		fires := a.p.firstOut.IsZero() && next.Equal(a.p.fire)
		a.mu.Unlock()
		switch {
		case over && err == nil:
			return
		case over:
			a.linger(err)
			return
		case conn != nil:
			next = now.Add(time.Hour) // its proof has its own limit
		case !now.Before(deadline):
			a.fail(a.failure())
			continue
		}
		pause := max(minPause, next.Sub(now))
		if fires { // the two sides must meet here, so timers are not good enough
			if pause = next.Sub(now) - timerSlack; pause <= 0 {
				sleepUntil(next)
				continue
			}
		}
		timer.Reset(pause)
		select {
		case <-timer.C:
		case <-a.wake:
		case <-a.ctx.Done():
			a.abort(context.Cause(a.ctx))
			return
		}
	}
}

// peerVaries tells whether the peer's NAT maps each destination anew.
func (a *attempt) peerVaries() bool {
	return a.mapping == pb.MappingBehavior_MAPPING_ADDRESS_AND_PORT_DEPENDENT || a.mapping == pb.MappingBehavior_MAPPING_ADDRESS_DEPENDENT
}

// failure describes an attempt that ran out of time.
func (a *attempt) failure() *Error {
	varies := a.c.mappingVaries() || a.peerVaries()
	a.mu.Lock()
	defer a.mu.Unlock()
	e := &Error{Op: "connect", Peer: a.s.peer.Name, Reason: a.p.failure(varies)}
	if a.mismatch != nil {
		e.Reason, e.Err = protocol.ReasonIdentityMismatch, a.mismatch
	}
	e.Detail = e.Reason.Explain()
	return e
}

// fail ends the attempt here and tells the server, which may order another one.
func (a *attempt) fail(err *Error) {
	a.mu.Lock()
	if a.over {
		a.mu.Unlock()
		return
	}
	a.over, a.err = true, err
	a.rest()
	tids := a.tids
	a.mu.Unlock()
	a.c.sessions.forget(tids...)
	a.c.sessions.stop(a)
	a.report(err.Reason)
	a.c.emit(Event{Kind: EventAttemptFailed, Session: a.s.id, Peer: a.s.peer.Name, Attempt: a.n, Err: err})
	a.poke()
}

// succeed ends the attempt whose connection is proven.
func (a *attempt) succeed() {
	a.mu.Lock()
	if a.over {
		a.mu.Unlock()
		return
	}
	a.over = true
	a.rest()
	a.conn.noteSkew(a.p)
	tids := a.tids
	a.mu.Unlock()
	a.c.sessions.forget(tids...)
	a.c.sessions.stop(a)
	a.report(protocol.ReasonOK)
	a.poke()
}

// abort ends an attempt that nobody needs any more. It reports false when a
// connection has come of it and the end is not due to a later attempt.
func (a *attempt) abort(cause error) bool {
	a.mu.Lock()
	conn, over := a.conn, a.over
	alive := conn != nil && conn.qc.Context().Err() == nil
	superseded := errors.Is(cause, errSuperseded)
	if alive && !superseded && a.c.ctx.Err() == nil {
		a.mu.Unlock()
		return false
	}
	a.over = true
	a.rest()
	if a.err == nil {
		a.err = &Error{Op: "connect", Peer: a.s.peer.Name, Reason: protocol.ReasonCanceled, Err: cause}
	}
	tids := a.tids
	a.mu.Unlock()
	a.c.sessions.forget(tids...)
	a.c.sessions.stop(a)
	a.cancel(cause)
	if alive {
		conn.setCause(&Error{Op: "connection to", Peer: a.s.peer.Name, Reason: protocol.ReasonCanceled, Err: cause})
		_ = conn.qc.CloseWithError(CodeSuperseded, "")
	}
	if !over && !superseded {
		a.report(protocol.ReasonCanceled)
	}
	return true
}

// linger waits for the server's word on a failed attempt: another order, which
// cancels this one, or the end. If neither comes, the server is gone.
func (a *attempt) linger(err *Error) {
	a.mu.Lock()
	deadline := a.p.deadline
	a.mu.Unlock()
	timer := time.NewTimer(time.Until(deadline) + lingerMore)
	defer timer.Stop()
	select {
	case <-a.ctx.Done():
	case <-timer.C:
		a.s.giveUp(err)
	}
}

// report tells the server how the attempt went.
func (a *attempt) report(reason protocol.Reason) { a.reportAs(a.n, reason) }

// reportAs reports under the number of a later attempt for which there was nothing to do.
func (a *attempt) reportAs(n uint32, reason protocol.Reason) {
	a.mu.Lock()
	r := &pb.Report{
		SessionId:       a.s.id[:],
		Attempt:         n,
		Reason:          reason.PB(),
		FirstInitOutNs:  a.c.serverNanos(a.p.firstOut),
		FirstInitInNs:   a.c.serverNanos(a.p.firstIn),
		HandshakeDoneNs: a.c.serverNanos(a.handshake),
		InitsOut:        a.p.initsOut,
		InitsIn:         a.p.initsIn,
	}
	if a.conn != nil {
		stats := a.conn.qc.ConnectionStats()
		remote := addrPort(a.conn.qc.RemoteAddr())
		r.Path = a.p.kind(remote)
		r.Remote = protocol.AddrToPB(remote)
		r.RttNs = int64(stats.MinRTT)
		if reason == protocol.ReasonOK {
			r.ProvenNs = a.c.serverNanos(time.Now())
		}
	}
	a.mu.Unlock()
	a.c.send(&pb.ClientMessage{Body: &pb.ClientMessage_Report{Report: r}})
}
