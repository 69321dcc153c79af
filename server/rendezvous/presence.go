package rendezvous

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

// refusal is why a sign-in or a request is turned down.
type refusal struct {
	reason     protocol.Reason
	detail     string
	retryAfter time.Duration
}

// Error makes a refusal an error.
func (r *refusal) Error() string { return fmt.Sprintf("%s: %s", r.reason, r.detail) }

// enter adds a peer. A live peer of the same name and another key keeps its
// name; with the same key it is replaced, because it is the same peer whose old
// connection is lost. One whose connection is over is not live.
func (g *group) enter(m *member, now time.Time) (err error) {
	g.step(func() {
		old := g.members[m.name]
		switch {
		case g.draining:
			err = &refusal{protocol.ReasonLimited, "the server is going away", drainReconnect}
			return
		case old != nil && old.fingerprint != m.fingerprint && !old.link.ended():
			err = &refusal{protocol.ReasonUnauthorized, fmt.Sprintf("name %q is taken by a live peer with another key", m.name), 0}
			return
		case old == nil && len(g.members) >= g.limits.MaxPeersPerGroup:
			err = &refusal{protocol.ReasonLimited, "the group is full", time.Second}
			return
		}
		if old != nil {
			g.remove(old, now)
			old.link.shut(closeReplaced, "the same key signed in again")
		}
		m.requests = map[uint64]request{}
		m.sessions = map[protocol.SessionID]*session{}
		m.collectives = map[string]*collective{}
		m.entered = now
		m.secondEnd = deadline{index: -1, fire: func(time.Time) { g.forgetSecond(m) }}
		g.members[m.name] = m
		g.roles[m.role]++
		g.serveWaiters(m, now)
		g.serveWatches()
	})
	return err
}

// exit removes a peer whose control connection has ended; a peer that was replaced before is gone already.
func (g *group) exit(m *member, now time.Time) {
	g.step(func() { g.remove(m, now) })
}

func (g *group) remove(m *member, now time.Time) {
	if m.gone {
		return
	}
	m.gone = true
	g.deadlines.stop(&m.secondEnd)
	delete(g.members, m.name)
	if g.roles[m.role]--; g.roles[m.role] == 0 {
		delete(g.roles, m.role)
	}
	for _, s := range slices.Collect(maps.Values(m.sessions)) {
		g.sideVanished(s, m, now)
	}
	for _, c := range slices.Collect(maps.Values(m.collectives)) {
		c.remove(g, m)
	}
	for _, r := range slices.Collect(maps.Values(m.requests)) {
		r.drop(g, now)
	}
}

// empty tells whether nobody is signed in.
func (g *group) empty() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.members) == 0
}

// natReport notes what a peer found out about its NAT.
func (g *group) natReport(m *member, r *pb.NatReport) {
	g.step(func() {
		if _, known := pb.MappingBehavior_name[int32(r.GetMapping())]; known {
			m.mapping = r.GetMapping()
			g.log.Debug("nat report", zap.String("peer", m.name), zap.String("mapping", mappingLabel(m.mapping)))
		}
		if _, known := pb.FilteringBehavior_name[int32(r.GetFiltering())]; known {
			m.filtering = r.GetFiltering()
		}
		m.inSequence = r.GetPortsInSequence()
	})
}

// maxMoved bounds the attempts that a session gets in place of those which a move has spoilt.
const maxMoved = 3

// moved notes a peer's new observed address. Attempts under way go to the old one, so they are begun anew.
func (g *group) moved(m *member, observed netip.AddrPort, now time.Time) {
	g.step(func() {
		if m.observed == observed {
			return // noted already
		}
		g.log.Info("peer moved", zap.String("peer", m.name), zap.Stringer("observed", observed))
		m.observed = observed
		for _, s := range m.sessions {
			if !s.succeeded && s.state == ordered && s.sides[0].report == nil && s.sides[1].report == nil && s.moved < maxMoved && !g.draining {
				s.moved++
				g.giveTurn(s, now)
				g.next(s, nil, now)
			}
		}
	})
}

// cancel withdraws a Connect or a WatchPeers; an unknown id is none, because the answer may have crossed it.
func (g *group) cancel(m *member, requestID uint64, now time.Time) {
	g.step(func() {
		if r := m.requests[requestID]; r != nil {
			r.drop(g, now)
		}
	})
}

// watch is an open WatchPeers.
type watch struct {
	m    *member
	id   uint64
	role string
	min  uint32
}

func (w *watch) drop(g *group, _ time.Time) {
	delete(g.watches, w)
	delete(w.m.requests, w.id)
}

// watchPeers answers at once if enough peers are there, else as soon as they are.
func (g *group) watchPeers(m *member, r *pb.WatchPeers) {
	g.step(func() {
		if !g.admit(m, r.GetRequestId()) {
			return
		}
		if len(r.GetRole()) > protocol.MaxRoleLen {
			m.refuse(r.GetRequestId(), protocol.ReasonLimited, "role is too long")
			return
		}
		w := &watch{m: m, id: r.GetRequestId(), role: r.GetRole(), min: r.GetMin()}
		if !g.answerWatch(w) {
			g.watches[w] = struct{}{}
			m.requests[w.id] = w
		}
	})
}

func (g *group) serveWatches() {
	for w := range g.watches {
		if g.answerWatch(w) {
			w.drop(g, time.Time{})
		}
	}
}

func (g *group) answerWatch(w *watch) bool {
	n := len(g.members)
	if w.role != "" {
		n = g.roles[w.role]
	}
	if n < int(w.min) {
		return false
	}
	peers := make([]*pb.PeerInfo, 0, n)
	for _, name := range slices.Sorted(maps.Keys(g.members)) {
		if m := g.members[name]; w.role == "" || m.role == w.role {
			peers = append(peers, m.info())
		}
	}
	w.m.link.enqueue(&pb.ServerMessage{Body: &pb.ServerMessage_Peers{Peers: &pb.Peers{RequestId: w.id, Peers: peers}}})
	return true
}
