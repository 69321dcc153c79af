package rendezvous

import (
	"fmt"
	"time"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

// wish is how a Connect wants its session to be.
type wish struct {
	exact    bool
	replaces protocol.SessionID // the session whose link is lost; zero: none
}

// waiter is a Connect whose peer is not signed in yet, or has no family in common with the asker yet.
type waiter struct {
	m    *member
	id   uint64
	peer string
	wish
	end deadline
}

func (w *waiter) drop(g *group, _ time.Time) {
	g.deadlines.stop(&w.end)
	delete(w.m.requests, w.id)
	delete(g.waiting[w.peer], w)
	if len(g.waiting[w.peer]) == 0 {
		delete(g.waiting, w.peer)
	}
}

// connect opens a session with a peer, joins the one that the peer has asked for
// at the same time, or waits for the peer.
func (g *group) connect(m *member, c *pb.Connect, now time.Time) {
	g.step(func() {
		if !g.admit(m, c.GetRequestId()) {
			return
		}
		if err := checkName("peer", c.GetPeer(), protocol.MaxNameLen); err != nil {
			m.refuse(c.GetRequestId(), protocol.ReasonNoPeer, err.Error())
			return
		}
		if c.GetPeer() == m.name {
			m.refuse(c.GetRequestId(), protocol.ReasonNoPeer, "a peer cannot connect to itself")
			return
		}
		ask := wish{exact: c.GetExact(), replaces: replacedBy(c)}
		other := g.members[c.GetPeer()]
		if other != nil && settled(m, other, now) {
			g.pairUp(m, other, c.GetRequestId(), ask, now)
			return
		}
		wait := min(time.Duration(c.GetWaitNs()), g.limits.MaxWait)
		if other != nil {
			wait = addressSettle
		}
		if wait <= 0 {
			m.refuse(c.GetRequestId(), protocol.ReasonNoPeer, fmt.Sprintf("nobody named %q is signed in", c.GetPeer()))
			return
		}
		w := &waiter{m: m, id: c.GetRequestId(), peer: c.GetPeer(), wish: ask}
		w.end = deadline{index: -1, fire: func(now time.Time) {
			w.drop(g, now)
			if other := g.members[w.peer]; other != nil { // whether it can be reached is known by now
				g.pairUp(m, other, w.id, w.wish, now)
				return
			}
			m.refuse(w.id, protocol.ReasonNoPeer, fmt.Sprintf("nobody named %q signed in within %v", w.peer, wait))
		}}
		m.requests[w.id] = w
		if g.waiting[w.peer] == nil {
			g.waiting[w.peer] = map[*waiter]struct{}{}
		}
		g.waiting[w.peer][w] = struct{}{}
		g.deadlines.set(&w.end, now.Add(wait))
	})
}

// serveWaiters pairs a peer that has signed in, or has another address, with those who wait for it.
func (g *group) serveWaiters(m *member, now time.Time) {
	for w := range g.waiting[m.name] {
		if !settled(w.m, m, now) {
			if until := now.Add(addressSettle); w.end.at.After(until) {
				g.deadlines.set(&w.end, until)
			}
			continue
		}
		w.drop(g, now)
		g.pairUp(w.m, m, w.id, w.wish, now)
	}
}

// pairUp opens the session that m asked for with another signed-in peer.
func (g *group) pairUp(m, other *member, requestID uint64, ask wish, now time.Time) {
	if s := g.asked[[2]string{other.name, m.name}]; s != nil && s.sides[1].m == m && s.sides[0].m == other &&
		s.sides[1].requestID == 0 && s.sides[1].report == nil {
		// Both asked at once. A peer's messages come in order, so its Connect, if
		// it crossed the order, comes before its report.
		s.sides[1].requestID = requestID
		m.requests[requestID] = &sessionRequest{s, 1}
		if s.state == ordered {
			g.tell(s, 1)
		}
		return
	}
	if apart(m, other) {
		g.metrics.sessionEnded(protocol.ReasonNoInbound)
		m.refuse(requestID, protocol.ReasonNoInbound, apartDetail(m, other))
		return
	}
	if hopeless(m, other) {
		g.metrics.sessionEnded(protocol.ReasonMappingVaries)
		m.refuse(requestID, protocol.ReasonMappingVaries, hopelessDetail(m, other))
		return
	}
	if !g.takeSessions(1) {
		m.refuse(requestID, protocol.ReasonLimited, "too many unfinished sessions")
		return
	}
	g.open(m, other, requestID, 0, nil, ask, nil, now)
}

func hopelessDetail(a, b *member) string {
	return fmt.Sprintf("the NATs of %s and %s both give every destination another port", a.name, b.name)
}

// takeSessions reserves room for sessions in the group's and the server's bounds.
func (g *group) takeSessions(n int) bool {
	if g.sessionsPerGroup+n > g.limits.MaxSessionsPerGroup || !g.budget.take(n) {
		return false
	}
	g.sessionsPerGroup += n
	return true
}
