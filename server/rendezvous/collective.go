package rendezvous

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

// collective is a named set of peers that want links to one another.
type collective struct {
	name    string
	shape   shape
	members map[string]*membership
	opened  bool // it had the size that a member waits for; from then on whoever joins is paired at once
	pending map[[2]string]*session
	// postponed are pairs of which it is not known yet whether they have a family in common.
	postponed []*postponed
}

// shape is what all members must agree on.
type shape struct {
	kind         pb.Join_Kind
	roleA, roleB string
}

// membership is one peer's part in a collective.
type membership struct {
	m  *member
	c  *collective
	id uint64
	// sizeA and sizeB are how many this member waits for. Members may differ: one that comes back, after others have
	// done their part and left, must not wait for them.
	sizeA, sizeB uint32
	// linked are the incarnations to which there is a link since the peer joined, with the session that made it; the zero
	// id if that is not known.
	linked map[ref]protocol.SessionID
	// lost are the links that this peer says are gone, until there is another one.
	lost map[ref]protocol.SessionID
}

// pairOf names a pair, whichever is given first.
func pairOf(a, b *member) [2]string {
	if a.name > b.name {
		a, b = b, a
	}
	return [2]string{a.name, b.name}
}

func (ms *membership) drop(g *group, now time.Time) {
	g.leaveCollective(ms, now)
}

// join enters a peer into a collective and opens the sessions that follow.
func (g *group) join(m *member, j *pb.Join, now time.Time) {
	g.step(func() {
		if !g.admit(m, j.GetRequestId()) {
			return
		}
		c, r := g.collectiveFor(m, j)
		if r != nil {
			m.refuse(j.GetRequestId(), r.reason, r.detail)
			return
		}
		ms := &membership{m: m, c: c, id: j.GetRequestId(), sizeA: j.GetSizeA(), sizeB: j.GetSizeB(),
			linked: map[ref]protocol.SessionID{}, lost: map[ref]protocol.SessionID{}}
		for _, p := range j.GetConnected() {
			if r, link, ok := refOf(p); ok {
				ms.linked[r] = link
			}
		}
		c.members[m.name] = ms
		opens := !c.opened && (c.complete() || len(ms.linked) > 0)
		var pairs [][2]*membership
		if c.opened {
			pairs = c.missing(ms)
		} else if opens {
			pairs = c.missing(nil)
		}
		if !g.takeSessions(len(pairs)) {
			c.forget(g, ms)
			m.refuse(j.GetRequestId(), protocol.ReasonLimited, fmt.Sprintf("%d sessions are more than the server has room for", len(pairs)))
			return
		}
		c.opened = c.opened || opens
		m.collectives[c.name] = c
		m.requests[ms.id] = ms
		g.openPairs(c, pairs, now)
	})
}

// collectiveFor finds the collective of a Join or makes it.
func (g *group) collectiveFor(m *member, j *pb.Join) (*collective, *refusal) {
	if err := checkName("collective", j.GetCollective(), protocol.MaxCollectiveLen); err != nil {
		return nil, &refusal{reason: protocol.ReasonLimited, detail: err.Error()}
	}
	want := shape{j.GetKind(), j.GetRoleA(), j.GetRoleB()}
	if want.kind == pb.Join_MESH {
		want.roleA, want.roleB = "", ""
	}
	switch {
	case want.kind != pb.Join_MESH && want.kind != pb.Join_BIPARTITE:
		return nil, &refusal{reason: protocol.ReasonLimited, detail: "unknown kind of collective"}
	case want.kind == pb.Join_BIPARTITE && (want.roleA == want.roleB || m.role != want.roleA && m.role != want.roleB):
		return nil, &refusal{reason: protocol.ReasonUnauthorized, detail: fmt.Sprintf(
			"role %q is on no side; a bipartite collective has two different roles, here %q and %q", m.role, want.roleA, want.roleB)}
	case uint64(j.GetSizeA())+uint64(j.GetSizeB()) > uint64(g.limits.MaxPeersPerGroup):
		return nil, &refusal{reason: protocol.ReasonLimited, detail: "the collective is larger than a group may be"}
	}
	c := g.collectives[j.GetCollective()]
	switch {
	case c == nil && len(g.collectives) >= g.limits.MaxCollectivesPerGroup:
		return nil, &refusal{reason: protocol.ReasonLimited, detail: "too many collectives in the group"}
	case c == nil:
		c = &collective{name: j.GetCollective(), shape: want, members: map[string]*membership{}, pending: map[[2]string]*session{}}
		g.collectives[c.name] = c
	case c.shape != want:
		return nil, &refusal{reason: protocol.ReasonLimited, detail: fmt.Sprintf("others joined %q with another kind or other roles", c.name)}
	case c.members[m.name] != nil:
		return nil, &refusal{reason: protocol.ReasonLimited, detail: fmt.Sprintf("this peer has joined %q already", c.name)}
	}
	return c, nil
}

// complete tells whether as many have joined as any one member waits for.
func (c *collective) complete() bool {
	var a, b uint32
	for _, ms := range c.members {
		if c.shape.kind == pb.Join_MESH || ms.m.role == c.shape.roleA {
			a++
		} else {
			b++
		}
	}
	for _, ms := range c.members {
		if a >= ms.sizeA && (c.shape.kind == pb.Join_MESH || b >= ms.sizeB) {
			return true
		}
	}
	return false
}

// wants tells whether a pair is one of the collective's and has neither link nor session.
func (c *collective) wants(x, y *membership) bool {
	if x == y || c.shape.kind == pb.Join_BIPARTITE && x.m.role == y.m.role {
		return false
	}
	_, xy := x.linked[y.m.ref()]
	_, yx := y.linked[x.m.ref()]
	// A session with an earlier incarnation of one of them does not count.
	s := c.pending[pairOf(x.m, y.m)]
	busy := s != nil && s.sides[s.sideOf(x.m)].m == x.m && s.sides[s.sideOf(y.m)].m == y.m
	return (!xy || x.gone(y)) && (!yx || y.gone(x)) && !busy
}

// missing lists the pairs that have neither link nor session, of one member or (nil) of all.
func (c *collective) missing(of *membership) (pairs [][2]*membership) {
	names := slices.Sorted(maps.Keys(c.members))
	add := func(x, y *membership) {
		if c.wants(x, y) {
			pairs = append(pairs, [2]*membership{x, y})
		}
	}
	if of != nil {
		for _, n := range names {
			if n != of.m.name {
				add(of, c.members[n])
			}
		}
		return pairs
	}
	for i, n := range names {
		for _, o := range names[i+1:] {
			add(c.members[n], c.members[o])
		}
	}
	return pairs
}

// openPairs opens the sessions of pairs, for which room is taken already. A large burst is paced.
func (g *group) openPairs(c *collective, pairs [][2]*membership, now time.Time) {
	var base time.Time
	index := map[*membership]int{}
	perPeer := map[*membership]int{}
	most := 0
	var slow time.Duration
	for _, p := range pairs {
		for _, ms := range p {
			if _, seen := index[ms]; !seen {
				index[ms] = len(index)
			}
			perPeer[ms]++
			most = max(most, perPeer[ms])
			slow = max(slow, oneWay(ms.m))
		}
	}
	if most > paceAbove {
		base = now.Add(slow + fireMargin + time.Duration(len(pairs))*orderCost)
	}
	for _, p := range pairs {
		a, b := p[0].m, p[1].m
		if g.postpone(c, p, now) {
			continue
		}
		if apart(a, b) {
			g.refusePair(p, protocol.ReasonNoInbound, apartDetail(a, b))
			continue
		}
		if hopeless(a, b) {
			g.refusePair(p, protocol.ReasonMappingVaries, hopelessDetail(a, b))
			continue
		}
		// Sessions of one peer differ in the sum, so no two of its own share a slot.
		at := &pace{base: base, slot: (index[p[0]] + index[p[1]]) % len(index), most: most, pairs: len(pairs)}
		g.open(a, b, p[0].id, p[1].id, c, wish{}, at, now)
	}
}

// refusePair tells both sides of a pair that cannot connect.
func (g *group) refusePair(p [2]*membership, reason protocol.Reason, detail string) {
	g.sessionsPerGroup--
	g.budget.give(1)
	g.tellPair(p, reason, detail)
}

// tellPair tells both sides of a pair that there will be no session.
func (g *group) tellPair(p [2]*membership, reason protocol.Reason, detail string) {
	g.metrics.sessionEnded(reason)
	id := protocol.NewSessionID()
	for i, ms := range p {
		ms.m.link.enqueue(&pb.ServerMessage{Body: &pb.ServerMessage_Failed{Failed: &pb.Failed{
			SessionId: id[:], Reason: reason.PB(), Detail: detail,
			RequestId: ms.id, Peer: p[1-i].m.refPB(),
		}}})
	}
}

// linked notes that a session has made the link of a pair.
func (c *collective) linked(a, b *member, by protocol.SessionID) {
	for _, p := range [][2]*member{{a, b}, {b, a}} {
		if ms := c.members[p[0].name]; ms != nil && ms.m == p[0] {
			ms.linked[p[1].ref()] = by
			delete(ms.lost, p[1].ref())
		}
	}
}

// leave ends a membership at its peer's wish.
func (g *group) leave(m *member, requestID uint64, now time.Time) {
	g.step(func() {
		if ms, isMember := m.requests[requestID].(*membership); isMember {
			g.leaveCollective(ms, now)
		}
	})
}

// leaveCollective ends the membership's unfinished sessions and makes the others forget its links, so that the peer may join anew.
func (g *group) leaveCollective(ms *membership, _ time.Time) {
	c, m := ms.c, ms.m
	for _, s := range c.pending {
		if i := s.sideOf(m); s.sides[i].m == m && !s.succeeded {
			g.metrics.attempt("failure", protocol.ReasonCanceled, s.natPair())
			g.fail(s, protocol.ReasonCanceled, fmt.Sprintf("%s has left %q", m.name, c.name), i)
		}
	}
	for _, other := range c.members {
		delete(other.linked, m.ref())
		delete(other.lost, m.ref())
	}
	c.remove(g, m)
}

// remove takes a peer out; its sessions are the caller's business.
func (c *collective) remove(g *group, m *member) {
	ms := c.members[m.name]
	if ms == nil || ms.m != m {
		return
	}
	delete(m.requests, ms.id)
	delete(m.collectives, c.name)
	c.forget(g, ms)
}

func (c *collective) forget(g *group, ms *membership) {
	delete(c.members, ms.m.name)
	g.dropPostponed(ms)
	if len(c.members) == 0 {
		delete(g.collectives, c.name)
	}
}
