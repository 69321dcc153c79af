package rendezvous

import (
	"time"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/pb"
)

// refOf reads a reference to an incarnation and the session of the link to it; the id is zero where none is given.
func refOf(p *pb.PeerRef) (r ref, link protocol.SessionID, ok bool) {
	f, err := identity.FingerprintFromBytes(p.GetFingerprint())
	if err != nil {
		return r, link, false
	}
	if len(p.GetSessionId()) > 0 {
		if link, err = protocol.SessionIDFromBytes(p.GetSessionId()); err != nil {
			return r, link, false
		}
	}
	return ref{p.GetName(), f}, link, true
}

// replacedBy reads the session that a Connect replaces; the zero id if it names none.
func replacedBy(c *pb.Connect) protocol.SessionID {
	id, err := protocol.SessionIDFromBytes(c.GetReplaces())
	if err != nil {
		return protocol.SessionID{}
	}
	return id
}

// lost opens new sessions for pairs whose links are gone or could not be made.
func (g *group) lost(m *member, l *pb.Lost, now time.Time) {
	g.step(func() {
		ms, isMember := m.requests[l.GetRequestId()].(*membership)
		if !isMember || m.gone {
			return
		}
		var pairs [][2]*membership
		had := false
		for _, p := range l.GetLinks() {
			r, link, ok := refOf(p)
			if !ok || !ms.lose(r, link, g.limits.MaxPeersPerGroup) {
				continue
			}
			if link != (protocol.SessionID{}) {
				had = true
				g.metrics.lost.Inc()
			}
			if other := ms.c.members[r.name]; other != nil && other.m.ref() == r && ms.c.wants(ms, other) {
				pairs = append(pairs, [2]*membership{ms, other})
			}
		}
		switch {
		case !ms.c.opened && !had: // it comes with all the others
			return
		case !ms.c.opened: // it was open when the link was made
			ms.c.opened = true
			pairs = ms.c.missing(nil)
		}
		switch {
		case len(pairs) == 0:
		case g.draining:
			g.refusePairs(pairs, protocol.ReasonLimited, "the server is going away; sign in again")
		case !g.takeSessions(len(pairs)):
			g.refusePairs(pairs, protocol.ReasonLimited, "too many unfinished sessions")
		default:
			g.openPairs(ms.c, pairs, now)
		}
	})
}

// lose forgets the link to r. It reports false when another link than the one named exists by now: the other side was
// faster to say that it is lost, and what we are told is old. most bounds what is kept.
func (ms *membership) lose(r ref, link protocol.SessionID, most int) bool {
	other := ms.c.members[r.name]
	if other != nil && other.m.ref() != r {
		other = nil
	}
	if newerLink(ms, r, link) {
		return false
	}
	if other != nil {
		me := ms.m.ref()
		if newerLink(other, me, link) {
			return false
		}
		delete(other.linked, me)
	}
	delete(ms.linked, r)
	if link != (protocol.SessionID{}) && len(ms.lost) < most {
		ms.lost[r] = link
	}
	return true
}

// newerLink tells whether a member has another link to r than the one that is said to be lost (the zero id: there was none).
func newerLink(ms *membership, r ref, lost protocol.SessionID) bool {
	now, linked := ms.linked[r]
	return linked && now != lost && (lost == protocol.SessionID{} || now != protocol.SessionID{})
}

// gone tells whether one of the two has said that the link which the other still names is lost.
func (ms *membership) gone(to *membership) bool {
	link, linked := ms.linked[to.m.ref()]
	if !linked {
		return false
	}
	lost, said := to.lost[ms.m.ref()]
	return said && (lost == link || link == protocol.SessionID{})
}

// replaces is the link that the next session of a pair replaces; the zero id if there was none.
func (c *collective) replaces(a, b *member) protocol.SessionID {
	for _, p := range [][2]*member{{a, b}, {b, a}} {
		if ms := c.members[p[0].name]; ms != nil && ms.m == p[0] {
			if link, said := ms.lost[p[1].ref()]; said {
				return link
			}
		}
	}
	return protocol.SessionID{}
}

// refusePairs tells the first of each pair, who has asked, that there will be no session.
func (g *group) refusePairs(pairs [][2]*membership, reason protocol.Reason, detail string) {
	for _, p := range pairs {
		id := protocol.NewSessionID()
		p[0].m.link.enqueue(&pb.ServerMessage{Body: &pb.ServerMessage_Failed{Failed: &pb.Failed{
			SessionId: id[:], Reason: reason.PB(), Detail: detail, RequestId: p[0].id, Peer: p[1].m.refPB(),
		}}})
	}
}
