package client

import (
	"context"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/bradawl/bradawl/protocol"
)

// dial makes one QUIC handshake as its client.
func (a *attempt) dial(to netip.AddrPort) {
	began := time.Now()
	a.c.emit(Event{Kind: EventDial, Session: a.s.id, Peer: a.s.peer.Name, Attempt: a.n, Addr: to})
	qc, err := a.transport().Dial(a.ctx, udpAddr(to), a.dialTLS, a.c.peerConfigFor(udpAddr(to)))
	if err == nil {
		a.connected(qc, began, nil)
		return
	}
	if a.ctx.Err() != nil {
		return
	}
	mismatch := quicReason(err) == protocol.ReasonIdentityMismatch
	a.mu.Lock()
	dead := false
	if mismatch {
		a.mismatch = err
		dead = a.p.exclude(to)
	} else {
		a.p.dialFailed(time.Now(), to)
	}
	a.mu.Unlock()
	if dead && mismatch {
		a.fail(a.failure())
		return
	}
	a.poke()
}

// proofLimit is how long a proof may take; many at once take longer.
func (a *attempt) proofLimit() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return proofLimit + a.p.slack
}

// serve is the listener's part in a handshake, and takes the connection on
// whose proof stream the dialler's padding arrives.
func (a *attempt) serve(qc *quic.Conn) {
	began := time.Now()
	pr := newProof(qc, a.key, false)
	err := pr.exchange(a.ctx, a.proofLimit(), func() bool { return a.connected(qc, began, pr) != nil })
	a.proven(qc, pr, err)
}

// connected takes a finished handshake, unless another one was faster. On the
// listening side pr is the proof under way; on the dialling side it begins here.
func (a *attempt) connected(qc *quic.Conn, began time.Time, pr *proof) *Conn {
	now := time.Now()
	a.mu.Lock()
	if a.over || a.conn != nil {
		a.mu.Unlock()
		_ = qc.CloseWithError(CodeSuperseded, "")
		return nil
	}
	if pr == nil {
		pr = newProof(qc, a.key, true)
		pr.patient = a.p.busy()
		pr.open() // before anybody else can open a stream
	}
	a.rest()
	a.p.connected()
	a.handshake = now
	conn := a.c.newConn(a, qc, pr, began, now)
	a.conn = conn
	a.mu.Unlock()
	a.c.emit(Event{Kind: EventConnected, Session: a.s.id, Peer: a.s.peer.Name, Attempt: a.n, Addr: conn.info.Remote, Delay: now.Sub(a.ordered)})
	_, group := a.s.waiter().(*Group)
	if !group || !a.dialler {
		a.s.deliver(conn)
	}
	if a.dialler {
		a.c.wg.Go(func() {
			err := pr.exchange(a.ctx, a.proofLimit(), func() bool { return true })
			if err == nil && group {
				defer a.s.deliver(conn)
			}
			a.proven(qc, pr, err)
		})
	}
	a.poke()
	return conn
}

// proven ends the proof of a connection.
func (a *attempt) proven(qc *quic.Conn, pr *proof, err error) {
	a.leaveGate(max(1, qc.ConnectionStats().MinRTT))
	a.mu.Lock()
	conn := a.conn
	mine := conn != nil && conn.qc == qc
	a.mu.Unlock()
	if !mine { // lost the race, or died before it got anywhere
		_ = qc.CloseWithError(CodeSuperseded, "")
		pr.end(nil)
		return
	}
	if err != nil && pr.checked && closedRegularly(err) {
		err = nil // the other side had all that it needed, and was faster to leave than its last byte
	}
	if err == nil {
		a.succeed() // first: who has waited for the proof may close the client next
		pr.end(nil)
		a.c.emit(Event{Kind: EventProven, Session: a.s.id, Peer: a.s.peer.Name, Attempt: a.n, Addr: conn.info.Remote, Delay: time.Since(a.ordered)})
		return
	}
	e := a.proofError(qc, err)
	conn.setCause(e)
	a.fail(e)
	_ = qc.CloseWithError(CodeProofFailed, "")
	pr.end(e)
}

// proofError gives a failed proof its reason.
func (a *attempt) proofError(qc *quic.Conn, err error) *Error {
	if qc.Context().Err() != nil { // says more than the stream's error
		err = context.Cause(qc.Context())
	}
	e := &Error{Op: "prove the path to", Peer: a.s.peer.Name, Reason: protocol.ReasonProofFailed, Err: err}
	switch r := quicReason(err); {
	case isRemoteCode(err, CodeSuperseded): // the other side was ahead; the next attempt may well succeed
	case r == protocol.ReasonIdentityMismatch, r == protocol.ReasonCanceled:
		e.Reason = r
	}
	return e
}
