package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

// Bounds on what an order may ask for, whatever the server says.
const (
	maxGiveUp = 60 * time.Second
	minGiveUp = 50 * time.Millisecond
	maxHold   = 60 * time.Second
	// lingerMore is how long after an attempt's end the server's next order may take to come.
	lingerMore = 4 * time.Second
	reaskDelay = 50 * time.Millisecond
)

var errSuperseded = errors.New("superseded by the next attempt")

// session is the connecting of one pair, over all its attempts.
type session struct {
	c          *Client
	id         protocol.SessionID
	peer       Peer
	collective string
	started    time.Time
	replaces   protocol.SessionID // the session whose lost link this one's replaces; zero: none

	current *attempt // guarded by sessions.mu

	mu        sync.Mutex
	request   request // who waits for it here; nil: whoever calls Accept
	solicited bool    // an order named a request of ours
}

func (s *session) waiter() request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.request
}

// order is a Session message that was checked.
type order struct {
	id         protocol.SessionID
	key        protocol.SessionKey
	attempt    uint32
	peer       Peer
	mapping    pb.MappingBehavior
	candidates []candidate
	dialler    bool
	fireAt     int64
	giveUp     time.Duration
	quiet      time.Duration // 0: as giveUp
	strategy   pb.Strategy
	sockets    int
	guess      *guesses
	prepared   bool // the prepared socket is to be used
	request    uint64
	collective string
	replaces   protocol.SessionID // zero: none
	beside     int                // how many others the same order starts
}

// parseOrder checks a Session message. The server is trusted with whom we
// connect to, not with how many packets that takes.
func parseOrder(m *pb.Session) (o order, err error) {
	if o.id, err = protocol.SessionIDFromBytes(m.GetId()); err != nil {
		return o, err
	}
	if o.attempt = m.GetAttempt(); o.attempt == 0 {
		return o, errors.New("order without an attempt number")
	}
	if o.key, err = protocol.SessionKeyFromBytes(m.GetKey()); err != nil {
		return o, err
	}
	if o.peer, err = peerFromPB(m.GetPeer()); err != nil {
		return o, err
	}
	switch m.GetRole() {
	case pb.Session_DIALLER:
		o.dialler = true
	case pb.Session_LISTENER:
	default:
		return o, fmt.Errorf("order with role %d", m.GetRole())
	}
	for _, c := range m.GetCandidates() {
		addr, err := protocol.AddrFromPB(c.GetAddress())
		ip := addr.Addr()
		if err != nil || ip.IsMulticast() || ip.IsUnspecified() || len(o.candidates) == protocol.MaxCandidates {
			continue
		}
		o.candidates = append(o.candidates, candidate{addr, c.GetType()})
	}
	switch o.strategy = m.GetStrategy(); o.strategy {
	case pb.Strategy_MANY_SOCKETS:
		if o.sockets = int(min(m.GetSockets(), protocol.MaxSockets)); o.sockets == 0 || len(o.candidates) == 0 {
			return o, errors.New("order for many sockets without their number or without a candidate")
		}
	case pb.Strategy_GUESSED_PORTS, pb.Strategy_PREDICTED_PORTS:
		if o.guess, err = parseGuess(m, o.candidates); err != nil {
			return o, err
		}
		o.prepared = m.GetFromPrepared()
	case pb.Strategy_FRESH_SOCKET:
		o.prepared = true
	default: // or one of a later version: the other side may get through by itself
		o.strategy = pb.Strategy_PLAIN
	}
	o.mapping = m.GetPeer().GetMapping()
	o.fireAt = m.GetFireTimeNs()
	o.giveUp = min(max(time.Duration(m.GetGiveUpNs()), minGiveUp), maxGiveUp)
	o.quiet = o.giveUp
	if q := time.Duration(m.GetQuietNs()); q > 0 {
		o.quiet = min(max(q, minGiveUp), o.giveUp)
	}
	o.request = m.GetRequestId()
	o.collective = m.GetCollective()
	if r := m.GetReplaces(); len(r) > 0 {
		if o.replaces, err = protocol.SessionIDFromBytes(r); err != nil {
			return o, err
		}
	}
	return o, nil
}

// handleOrder starts the attempts of an order. It runs on the reader of the
// control stream: first INITs leave before it returns.
func (c *Client) handleOrder(m *pb.Order) {
	now := time.Now()
	for _, sm := range m.GetSessions() {
		o, err := parseOrder(sm)
		if err != nil {
			if len(sm.GetId()) == len(protocol.SessionID{}) {
				c.send(&pb.ClientMessage{Body: &pb.ClientMessage_Report{Report: &pb.Report{
					SessionId: sm.GetId(), Attempt: sm.GetAttempt(), Reason: pb.Reason_CANCELED}}})
			}
			continue
		}
		o.beside = len(m.GetSessions()) - 1
		c.obey(now, o)
	}
}

// obey starts one attempt, or attaches a request to the one that is under way.
func (c *Client) obey(now time.Time, o order) {
	s := c.sessions.get(o.id)
	known := s != nil
	if !known {
		s = &session{c: c, id: o.id, peer: o.peer, collective: o.collective, started: now, replaces: o.replaces}
	}
	wanted := c.attach(s, o)
	if known && s.attemptNumber() >= o.attempt {
		c.settleLate(s)
		return
	}
	if a := c.sessions.provenAttempt(s); known && a != nil {
		// Our report on it and a new address of one side have crossed.
		a.reportAs(o.attempt, protocol.ReasonOK)
		return
	}
	if !wanted {
		c.send(&pb.ClientMessage{Body: &pb.ClientMessage_Report{Report: &pb.Report{
			SessionId: o.id[:], Attempt: o.attempt, Reason: pb.Reason_CANCELED}}})
		return
	}
	c.replaced(o)
	if g, ok := s.waiter().(*Group); ok {
		g.pairs.ordered(s, o.attempt)
	}
	a := c.newAttempt(s, o, now)
	if old := c.sessions.start(s, a, a.p.addrs()); old != nil {
		old.cancel(errSuperseded)
	}
	c.emit(Event{Kind: EventOrder, Session: s.id, Peer: s.peer.Name, Attempt: o.attempt, Delay: max(0, a.p.fire.Sub(now))})
	if late := now.Sub(a.p.fire); o.fireAt != 0 && late > c.window() && o.beside < burstAbove { // in a burst each waits for the other
		a.fail(&Error{Op: "connect", Peer: s.peer.Name, Reason: protocol.ReasonWindowMissed,
			Detail: fmt.Sprintf("the order came %v after its fire time", late.Round(time.Millisecond))})
	} else {
		a.step(now)
	}
	c.wg.Go(a.run)
}

func (s *session) attemptNumber() uint32 {
	s.c.sessions.mu.RLock()
	defer s.c.sessions.mu.RUnlock()
	if s.current == nil {
		return 0
	}
	return s.current.n
}

// attach finds out who here waits for the session. It reports false when nobody does.
func (c *Client) attach(s *session, o order) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	var r request
	switch {
	case o.request != 0:
		r = c.requests[o.request]
	case o.collective != "":
		if g := c.groups[o.collective]; g != nil {
			r = g
		}
	default:
		r = c.asking(o.peer.Name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.request != 0 {
		s.solicited = true
	}
	if r != nil && s.request == nil {
		s.request = r
		if ask, ok := r.(*connectRequest); ok {
			ask.session = s
		}
	}
	if s.request != nil {
		return c.pending(s.request)
	}
	return o.request == 0 && o.collective == ""
}

// asking returns a pending Connect to that peer to which no session belongs yet. c.mu is held.
func (c *Client) asking(peer string) request {
	for _, r := range c.requests {
		if ask, ok := r.(*connectRequest); ok && ask.peer == peer && ask.session == nil {
			return ask
		}
	}
	return nil
}

// pending tells whether somebody still waits for r. c.mu is held.
func (c *Client) pending(r request) bool { return c.requests[r.id()] == r }

// settleLate serves a Connect whose order came for a session that is already
// there, because the other side asked at the same time.
func (c *Client) settleLate(s *session) {
	c.sessions.mu.RLock()
	a := s.current
	c.sessions.mu.RUnlock()
	a.mu.Lock()
	conn := a.conn
	a.mu.Unlock()
	ask, ok := s.waiter().(*connectRequest)
	if !ok || conn == nil {
		return // its outcome will find the request
	}
	if _, mine := c.accepted.take(func(q *Conn) bool { return q == conn }); mine {
		c.finish(ask, connectResult{conn: conn})
		return
	}
	// Accept has given it away already: ask for one of our own once this session is history.
	if !c.renumber(ask) {
		return
	}
	c.wg.Go(func() {
		_ = conn.Proven(c.ctx)
		wait := time.NewTimer(reaskDelay) // the other side's report has to reach the server
		defer wait.Stop()
		select {
		case <-c.ctx.Done():
		case <-wait.C:
			c.send(ask.message())
		}
	})
}

// deliver gives a connection to whoever waits for it.
func (s *session) deliver(conn *Conn) {
	switch r := s.waiter().(type) {
	case *connectRequest:
		if s.c.finish(r, connectResult{conn: conn}) {
			return
		}
		_ = conn.qc.CloseWithError(CodeUnwanted, "")
	case *Group:
		r.pairs.up(conn)
		if !r.queue.push(Link{Peer: s.peer, Conn: conn}) {
			_ = conn.qc.CloseWithError(CodeUnwanted, "")
		}
	default:
		if !s.c.accepted.push(conn) {
			_ = conn.qc.CloseWithError(CodeUnwanted, "nobody accepts")
		}
	}
}

// giveUp tells whoever waits that there will be no connection, and forgets the session.
func (s *session) giveUp(err *Error) {
	s.c.sessions.remove(s)
	s.c.emit(Event{Kind: EventFailed, Session: s.id, Peer: s.peer.Name, Err: err})
	switch r := s.waiter().(type) {
	case *connectRequest:
		s.c.mu.Lock()
		mine := r.session == s // else it was asked for again since
		s.c.mu.Unlock()
		if mine {
			s.c.finish(r, connectResult{err: err})
		}
	case *Group:
		r.pairs.failed(s.peer, s.id, err)
		r.queue.push(Link{Peer: s.peer, Err: err})
	}
}

// handleFailed ends the session that the server has given up.
func (c *Client) handleFailed(m *pb.Failed) {
	reason := protocol.ReasonFromPB(m.GetReason())
	err := &Error{Op: "connect", Peer: m.GetPeer().GetName(), Reason: reason, Detail: m.GetDetail()}
	id, perr := protocol.SessionIDFromBytes(m.GetSessionId())
	if s := c.sessions.get(id); perr == nil && s != nil {
		err.Peer = s.peer.Name
		c.sessions.mu.RLock()
		a := s.current
		c.sessions.mu.RUnlock()
		if a.abort(context.Canceled) {
			s.giveUp(err)
		}
		return
	}
	// No order came before it.
	c.mu.Lock()
	r := c.requests[m.GetRequestId()]
	c.mu.Unlock()
	switch r := r.(type) {
	case *connectRequest:
		c.finish(r, connectResult{err: err})
	case *Group:
		peer := Peer{Name: m.GetPeer().GetName()}
		copy(peer.Fingerprint[:], m.GetPeer().GetFingerprint())
		r.pairs.failed(peer, id, err)
		r.queue.push(Link{Peer: peer, Err: err})
	}
}
