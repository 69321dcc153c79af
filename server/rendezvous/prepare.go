package rendezvous

import (
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

const (
	// prepareLimit is how long a peer may take to open a socket and have its address witnessed, round trips not counted.
	prepareLimit = 400 * time.Millisecond
	// witnessAge is how old a witness may be.
	witnessAge = 10 * time.Second
	// queueLimit is how long a session may wait for its turn to guess ports.
	queueLimit = time.Minute
)

// next begins the next attempt: at once, or as soon as what it needs is there.
func (g *group) next(s *session, p *pace, now time.Time) {
	s.attempt++
	s.key = protocol.NewSessionKey()
	for i := range s.sides {
		s.sides[i].report, s.sides[i].prepared, s.sides[i].fresh = nil, false, netip.AddrPort{}
	}
	s.plan = s.choose(now)
	if s.plan.guesses() {
		s.dialler = s.plan.hard
		if !g.takeTurn(s) {
			s.state = queued
			g.queue = append(g.queue, s)
			g.deadlines.set(&s.end, now.Add(queueLimit))
			return
		}
	}
	g.prepare(s, p, now)
}

// prepare asks for the sockets that the attempt needs, and orders it if it needs none.
func (g *group) prepare(s *session, p *pace, now time.Time) {
	needs := false
	for i := range s.sides {
		if !s.plan.prepares(i) {
			continue
		}
		needs = true
		s.sides[i].m.link.enqueue(&pb.ServerMessage{Body: &pb.ServerMessage_Prepare{
			Prepare: &pb.Prepare{SessionId: s.id[:], Attempt: uint32(s.attempt), Alternate: s.plan.strategy == predicted && i == s.plan.hard}}})
	}
	if !needs {
		g.order(s, p, now)
		return
	}
	s.state = preparing
	g.deadlines.set(&s.end, now.Add(prepareLimit+12*slowest(s)))
}

// prepared takes a peer's word that its socket is ready. The address counts only with the server's own witness, and only
// on the IP address from which the peer is signed in: nobody can have packets aimed at somebody else.
func (g *group) prepared(m *member, r *pb.Prepared, now time.Time) {
	g.step(func() {
		id, err := protocol.SessionIDFromBytes(r.GetSessionId())
		s := m.sessions[id]
		if err != nil || s == nil || s.state != preparing || int(r.GetAttempt()) != s.attempt {
			return
		}
		i := s.sideOf(m)
		if !s.plan.prepares(i) || s.sides[i].prepared {
			return
		}
		s.sides[i].prepared = true
		main, ok := g.witnessed(m, r.GetMain(), stunMain)
		if ok {
			s.sides[i].fresh = main
		}
		if s.plan.strategy == predicted && i == s.plan.hard {
			alternate, both := g.witnessed(m, r.GetAlternate(), stunAlternate)
			guess, sequence := predict(main.Port(), alternate.Port())
			if s.plan.guess = guess; !ok || !both || !sequence {
				s.plan = randomPorts(s.plan.hard, s.plan.anew)
			}
		}
		for i := range s.sides {
			if s.plan.prepares(i) && !s.sides[i].prepared {
				return
			}
		}
		g.order(s, nil, now)
	})
}

// witnessed checks an address of a Prepared.
func (g *group) witnessed(m *member, w *pb.Witnessed, by stunSocket) (netip.AddrPort, bool) {
	a, err := protocol.AddrFromPB(w.GetAddress())
	if err != nil || a.Addr() != m.observed.Addr() || !g.witness.Check(w.GetWitness(), a, byte(by), g.clock.now(), witnessAge) {
		if w != nil {
			g.log.Debug("an address without a witness", zap.String("peer", m.name))
		}
		return netip.AddrPort{}, false
	}
	return a, true
}

// unprepared is called when a peer has not prepared its socket in time: the attempt goes on without.
func (g *group) unprepared(s *session, now time.Time) {
	if s.plan.strategy == predicted && !s.sides[s.plan.hard].prepared {
		s.plan = randomPorts(s.plan.hard, s.plan.anew)
	}
	g.order(s, nil, now)
}

// guessesOut lets the many sockets fire: what they send meets open ports from now on.
func (g *group) guessesOut(m *member, r *pb.Guessed) {
	g.step(func() {
		id, err := protocol.SessionIDFromBytes(r.GetSessionId())
		s := m.sessions[id]
		if err != nil || s == nil || s.state != ordered || int(r.GetAttempt()) != s.attempt || !s.plan.guesses() || s.sideOf(m) == s.plan.hard {
			return
		}
		if hard := &s.sides[s.plan.hard]; !s.fired && hard.report == nil {
			s.fired = true
			hard.m.link.enqueue(&pb.ServerMessage{Body: &pb.ServerMessage_Fire{Fire: &pb.Fire{SessionId: s.id[:], Attempt: uint32(s.attempt)}}})
		}
	})
}

// takeTurn reserves both peers for an attempt that guesses ports: rates and numbers of sockets are bounded per peer, so
// one session at a time has them.
func (g *group) takeTurn(s *session) bool {
	if s.sides[0].m.guessing != nil || s.sides[1].m.guessing != nil {
		return false
	}
	s.sides[0].m.guessing, s.sides[1].m.guessing = s, s
	return true
}

// giveTurn ends a reservation and lets those who wait go on.
func (g *group) giveTurn(s *session, now time.Time) {
	held := false
	for i := range s.sides {
		if m := s.sides[i].m; m.guessing == s {
			m.guessing, held = nil, true
		}
	}
	if !held {
		return
	}
	waiting := g.queue
	g.queue = nil
	for _, w := range waiting {
		if g.takeTurn(w) {
			g.prepare(w, nil, now)
		} else {
			g.queue = append(g.queue, w)
		}
	}
}
