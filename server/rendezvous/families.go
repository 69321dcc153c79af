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

const (
	// addressLifetime is how long a proven address counts unless it is proven again; clients do so every 20 s.
	addressLifetime = 60 * time.Second
	// addressSettle is how long after its sign-in a peer's address in the other family may take to be proven, before it
	// counts as a peer of one family.
	addressSettle = time.Second
)

// is4 tells an address's family; the address is valid.
func is4(a netip.AddrPort) bool { return a.Addr().Is4() }

// addr returns the peer's observed address in a family; invalid if it has none.
func (m *member) addr(v4 bool) netip.AddrPort {
	for _, a := range []netip.AddrPort{m.observed, m.second} {
		if a.IsValid() && is4(a) == v4 {
			return a
		}
	}
	return netip.AddrPort{}
}

// share tells whether both peers have an address of the family.
func share(a, b *member, v4 bool) bool { return a.addr(v4).IsValid() && b.addr(v4).IsValid() }

// apart tells whether two peers have no family in common.
func apart(a, b *member) bool { return !share(a, b, true) && !share(a, b, false) }

func apartDetail(a, b *member) string {
	only := map[bool]string{true: "IPv4", false: "IPv6"}
	return fmt.Sprintf("%s has only %s and %s only %s: no packet can pass between them",
		a.name, only[is4(a.observed)], b.name, only[is4(b.observed)])
}

// otherwise tells whether two peers have a way to one another by another family than that of both control connections, which
// is the family whose NATs are known.
func otherwise(a, b *member) bool {
	return is4(a.observed) != is4(b.observed) || share(a, b, !is4(a.observed))
}

// sameNetwork tells whether two peers are behind one public address, in IPv6 in one /64.
func sameNetwork(a, b *member) bool {
	if share(a, b, true) && a.addr(true).Addr() == b.addr(true).Addr() {
		return true
	}
	return share(a, b, false) && sourceOf(a.addr(false).Addr()) == sourceOf(b.addr(false).Addr())
}

// settled tells whether it is known whether two peers have a family in common.
func settled(a, b *member, now time.Time) bool {
	return !apart(a, b) || a.complete(now) && b.complete(now)
}

// complete tells whether no other address of the peer is to be expected.
func (m *member) complete(now time.Time) bool {
	return m.oneFamily || m.second.IsValid() || !now.Before(m.entered.Add(addressSettle))
}

// addressProof notes a peer's address in the other family. Only the server's own witness counts, which went to that
// address: a peer cannot have others send to a stranger whose address it forges.
func (g *group) addressProof(m *member, p *pb.AddressProof, now time.Time) {
	g.step(func() {
		a, err := protocol.AddrFromPB(p.GetSecond().GetAddress())
		ok := err == nil && !m.gone && m.observed.IsValid() && is4(a) != is4(m.observed) &&
			g.witness.Check(p.GetSecond().GetWitness(), a, byte(stunMain), g.clock.now(), witnessAge)
		if !ok {
			g.metrics.addressProofs.WithLabelValues("ignored").Inc()
			return
		}
		g.metrics.addressProofs.WithLabelValues("used").Inc()
		g.deadlines.set(&m.secondEnd, now.Add(addressLifetime))
		if a == m.second {
			return
		}
		g.log.Info("peer has a second address", zap.String("peer", m.name), zap.Stringer("observed", a))
		m.second = a
		m.hosts = vetHosts(m.claimed, m.observed, m.second)
		g.meetAgain(m, now)
	})
}

// forgetSecond drops an address that was not proven again in time.
func (g *group) forgetSecond(m *member) {
	g.log.Info("peer's second address has expired", zap.String("peer", m.name), zap.Stringer("observed", m.second))
	m.second = netip.AddrPort{}
	m.hosts = vetHosts(m.claimed, m.observed)
}

// meetAgain tries again what waits for the peer to have a family in common with another one.
func (g *group) meetAgain(m *member, now time.Time) {
	g.serveWaiters(m, now)
	for _, r := range m.requests {
		w, waits := r.(*waiter)
		if !waits {
			continue
		}
		if other := g.members[w.peer]; other != nil && !apart(m, other) {
			w.drop(g, now)
			g.pairUp(m, other, w.id, w.wish, now)
		}
	}
	for _, c := range m.collectives {
		if ms := c.members[m.name]; ms != nil && ms.m == m {
			g.openPostponed(ms, now)
		}
	}
}

// postponed is a pair of a collective that waits until it is known whether it has a family in common.
type postponed struct {
	pair [2]*membership
	end  deadline
}

// postpone gives back the room of a pair that has no family in common yet, and tries it again later. It reports false
// where there is nothing to wait for.
func (g *group) postpone(c *collective, pair [2]*membership, now time.Time) bool {
	if settled(pair[0].m, pair[1].m, now) {
		return false
	}
	g.sessionsPerGroup--
	g.budget.give(1)
	p := &postponed{pair: pair}
	p.end = deadline{index: -1, fire: func(now time.Time) { g.retryPostponed(c, p, now) }}
	c.postponed = append(c.postponed, p)
	g.deadlines.set(&p.end, now.Add(addressSettle))
	return true
}

// retryPostponed opens the session of a postponed pair, or fails it.
func (g *group) retryPostponed(c *collective, p *postponed, now time.Time) {
	g.deadlines.stop(&p.end)
	c.postponed = slices.DeleteFunc(c.postponed, func(q *postponed) bool { return q == p })
	a, b := p.pair[0], p.pair[1]
	if _, linked := a.linked[b.m.ref()]; linked || c.pending[pairOf(a.m, b.m)] != nil {
		return
	}
	if !g.takeSessions(1) {
		g.tellPair(p.pair, protocol.ReasonLimited, "too many unfinished sessions")
		return
	}
	g.openPairs(c, [][2]*membership{p.pair}, now)
}

// dropPostponed forgets the postponed pairs of a member that leaves.
func (g *group) dropPostponed(ms *membership) {
	ms.c.postponed = slices.DeleteFunc(ms.c.postponed, func(p *postponed) bool {
		mine := p.pair[0] == ms || p.pair[1] == ms
		if mine {
			g.deadlines.stop(&p.end)
		}
		return mine
	})
}

// openPostponed tries again the postponed pairs of a member that have a family in common by now.
func (g *group) openPostponed(ms *membership, now time.Time) {
	for _, p := range slices.Clone(ms.c.postponed) {
		if (p.pair[0] == ms || p.pair[1] == ms) && !apart(p.pair[0].m, p.pair[1].m) {
			g.retryPostponed(ms.c, p, now)
		}
	}
}
