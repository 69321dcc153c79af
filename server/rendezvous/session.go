package rendezvous

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

// session is one pair's attempts to connect.
type session struct {
	id         protocol.SessionID
	sides      [2]side // 0 asked for it
	dialler    int     // index into sides
	collective *collective
	exact      bool
	replaces   protocol.SessionID // the session whose link is lost; zero: none
	pairs      int                // how many sessions were made with this one
	burst      int                // how many sessions a peer may have to make at once with this one

	attempt   int
	moved     int // attempts that a new address of one side has spoilt
	key       protocol.SessionKey
	plan      plan
	state     state
	fired     bool      // the many sockets of the current attempt were told to fire
	extended  bool      // the current attempt has got provingGrace
	silent    bool      // in an attempt that failed, nothing came in somewhere
	guesses   int       // attempts that guessed ports
	predicted bool      // prediction of ports was tried
	ordered   time.Time // the current attempt
	began     time.Time // the first attempt
	end       deadline  // of the current attempt

	succeeded bool // the dialler has proven the path; kept for the other's report
}

// side is one of the two as the session sees it.
type side struct {
	m         *member
	requestID uint64     // its own Connect or Join; 0: the other asked
	report    *pb.Report // of the current attempt; nil: none yet
	gone      bool       // vanished after its report

	timing   timing
	prepared bool           // it has answered Prepare
	fresh    netip.AddrPort // and this is its socket's address; invalid: it has none
}

// state is how far the current attempt is.
type state int

const (
	ordered   state = iota // both have their orders
	preparing              // sockets are being opened
	queued                 // waits for its turn to guess ports
)

// sessionRequest is a Connect that has become a session.
type sessionRequest struct {
	s *session
	i int
}

func (s *session) sideOf(m *member) int {
	if s.sides[0].m == m {
		return 0
	}
	return 1
}

func (s *session) natPair() string {
	return natPair(s.sides[0].m.mapping, s.sides[1].m.mapping)
}

// open makes a session of two peers and orders its first attempt. The caller
// has taken it from the budget. pace may be nil.
func (g *group) open(a, b *member, requestA, requestB uint64, c *collective, ask wish, p *pace, now time.Time) *session {
	s := &session{
		id:    protocol.NewSessionID(),
		sides: [2]side{{m: a, requestID: requestA}, {m: b, requestID: requestB}},
		began: now, collective: c, exact: ask.exact, replaces: ask.replaces,
	}
	if p != nil {
		s.burst, s.pairs = p.most, p.pairs
	}
	s.end = deadline{index: -1, fire: func(now time.Time) { g.attemptExpired(s, now) }}
	if ha, hb := hardness(a.mapping), hardness(b.mapping); hb > ha || hb == ha && c != nil && s.id[0]&1 == 1 { // each dials about as often as it is dialled
		s.dialler = 1
	}
	g.sessions[s] = struct{}{}
	a.sessions[s.id], b.sessions[s.id] = s, s
	if c == nil {
		g.asked[[2]string{a.name, b.name}] = s
		a.requests[requestA] = &sessionRequest{s, 0}
	} else {
		c.pending[pairOf(a, b)] = s
		s.replaces = c.replaces(a, b)
	}
	g.metrics.sessionsOpen.Inc()
	g.next(s, p, now)
	return s
}

// order lets the attempt begin.
func (g *group) order(s *session, p *pace, now time.Time) {
	s.state, s.extended, s.fired = ordered, false, false
	s.ordered = now
	over := g.schedule(s, p, now)
	g.deadlines.set(&s.end, over.Add(g.grace(s)))
	g.tell(s, 0)
	g.tell(s, 1)
	g.log.Debug("order", zap.Stringer("session", s.id), zap.Int("attempt", s.attempt), zap.Stringer("strategy", s.plan.strategy),
		zap.String("dialler", s.sides[s.dialler].m.name), zap.String("listener", s.sides[1-s.dialler].m.name))
}

// tell collects the order for one side.
func (g *group) tell(s *session, i int) {
	me, other := s.sides[i].m, s.sides[1-i].m
	role := pb.Session_LISTENER
	if s.dialler == i {
		role = pb.Session_DIALLER
	}
	key := s.key // a copy: the order may be written after the next attempt has its key
	where := candidates(other, me)
	if s.plan.strategy != plain { // further sockets are of the control connection's family
		where = slices.DeleteFunc(where, func(c *pb.Candidate) bool {
			a, err := protocol.AddrFromPB(c.GetAddress())
			return err != nil || is4(a) != is4(other.observed)
		})
	}
	o := &pb.Session{
		Id: s.id[:], Attempt: uint32(s.attempt), Key: key[:], Peer: other.info(),
		Candidates: where, Role: role,
		FireTimeNs: s.sides[i].timing.fire, GiveUpNs: int64(s.sides[i].timing.giveUp), QuietNs: int64(s.sides[i].timing.quiet),
		RequestId: s.sides[i].requestID,
	}
	s.plan.describe(o, i, s.sides[i].fresh.IsValid())
	if a := s.sides[1-i].fresh; a.IsValid() && (s.plan.strategy == fresh || s.plan.anew && i == s.plan.hard) {
		o.Candidates = []*pb.Candidate{{Type: pb.Candidate_SERVER_REFLEXIVE, Address: protocol.AddrToPB(a)}}
	} else if s.plan.guesses() { // what is known of the NATs is of this family
		o.Candidates = slices.DeleteFunc(o.Candidates, func(c *pb.Candidate) bool {
			a, err := protocol.AddrFromPB(c.GetAddress())
			return err != nil || a != other.observed
		})
	}
	if s.collective != nil {
		o.Collective = s.collective.name
	}
	if s.replaces != (protocol.SessionID{}) {
		o.Replaces = s.replaces[:]
	}
	g.collect(me, o)
}

// close forgets a session.
func (g *group) close(s *session) {
	if _, ok := g.sessions[s]; !ok {
		return
	}
	delete(g.sessions, s)
	g.deadlines.stop(&s.end)
	if s.state == queued {
		g.queue = slices.DeleteFunc(g.queue, func(w *session) bool { return w == s })
	}
	s.state = ordered // no longer waiting for anything
	g.giveTurn(s, time.Now())
	for i := range s.sides {
		m := s.sides[i].m
		delete(m.sessions, s.id)
		if s.collective == nil {
			delete(m.requests, s.sides[i].requestID)
		}
	}
	a, b := s.sides[0].m, s.sides[1].m
	if key := [2]string{a.name, b.name}; g.asked[key] == s {
		delete(g.asked, key)
	}
	if c := s.collective; c != nil && c.pending[pairOf(a, b)] == s {
		delete(c.pending, pairOf(a, b))
	}
	g.sessionsPerGroup--
	g.budget.give(1)
	g.metrics.sessionsOpen.Dec()
}

// fail ends a session and says so to both sides but the one at index except (-1: none).
func (g *group) fail(s *session, reason protocol.Reason, detail string, except int) {
	for i := range s.sides {
		if i != except && !s.sides[i].m.gone {
			s.sides[i].m.link.enqueue(&pb.ServerMessage{Body: &pb.ServerMessage_Failed{Failed: &pb.Failed{
				SessionId: s.id[:], Reason: reason.PB(), Detail: detail,
				RequestId: s.sides[i].requestID, Peer: s.sides[1-i].m.refPB(),
			}}})
		}
	}
	g.metrics.sessionEnded(reason)
	g.logEnd(s, "session failed", zap.String("reason", string(reason)), zap.String("detail", detail))
	g.close(s)
}

func (g *group) logEnd(s *session, what string, more ...zap.Field) {
	g.log.Info(what, append([]zap.Field{
		zap.Stringer("session", s.id), zap.String("asker", s.sides[0].m.name), zap.String("peer", s.sides[1].m.name),
		zap.String("nat_pair", s.natPair()), zap.Int("attempts", s.attempt),
	}, more...)...)
}

// drop is what a Cancel does to a Connect that has become a session.
func (r *sessionRequest) drop(g *group, _ time.Time) {
	s, me := r.s, &r.s.sides[r.i]
	delete(me.m.requests, me.requestID)
	if s.succeeded {
		return
	}
	if me.requestID = 0; s.sides[1-r.i].requestID != 0 {
		return // the other side asked too
	}
	g.metrics.attempt("failure", protocol.ReasonCanceled, s.natPair())
	g.fail(s, protocol.ReasonCanceled, fmt.Sprintf("%s no longer wants the connection", me.m.name), r.i)
}

// vanishGrace is how long the other side of a vanished peer has, beside its way to the server, to report a proven path:
// a peer may have done all it wanted and left, and its own report may be lost with it.
const vanishGrace = time.Second

// sideVanished notes that a peer of a session is no longer signed in. Unless the other one soon reports that the path is
// proven, the session ends.
func (g *group) sideVanished(s *session, m *member, now time.Time) {
	i := s.sideOf(m)
	me, other := &s.sides[i], &s.sides[1-i]
	me.gone = true
	if s.collective == nil {
		delete(m.requests, me.requestID)
	}
	if until := now.Add(vanishGrace + other.m.link.roundTrip()); until.Before(s.end.at) {
		g.deadlines.set(&s.end, until)
	}
	g.decide(s, now)
}
