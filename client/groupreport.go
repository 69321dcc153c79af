package client

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

// LinkState is how far a link of a collective is.
type LinkState string

// The states of a link.
const (
	// LinkPending: the rendezvous has ordered it, and there is no outcome yet.
	LinkPending LinkState = "pending"
	// LinkUp: the connection is there.
	LinkUp LinkState = "up"
	// LinkFailed: there will be none unless [Group.Retry] asks again; Err says why.
	LinkFailed LinkState = "failed"
	// LinkLost: the connection was lost, and a new one is asked for; Err says why.
	LinkLost LinkState = "lost"
	// LinkClosed: one of the two sides has closed the connection; Err says which.
	LinkClosed LinkState = "closed"
)

// PairReport is what is known of the link to one peer.
type PairReport struct {
	// Peer is the other side, its latest incarnation that is known.
	Peer Peer
	// State is how far the link is.
	State LinkState
	// Session is the latest session of the pair.
	Session protocol.SessionID
	// Attempts is how many attempts that session has taken here; 0 if the rendezvous gave up before the first.
	Attempts uint32
	// Lost is how often the link was up and then lost.
	Lost int
	// Err is why the link is not up; nil otherwise, and while it is pending for the first time.
	Err error
}

// GroupReport says whom this peer reaches in a collective and whom it does not.
type GroupReport struct {
	// Pairs are all the peers with which the rendezvous has tried or refused to link
	// this one, ordered by name. A peer that has not joined is not among them.
	Pairs []PairReport
	// Up, Pending, Failed, Lost and Closed count the pairs in each state.
	Up, Pending, Failed, Lost, Closed int
}

// String is one line of counts, and one for each link that has failed or is lost.
func (r GroupReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d up, %d pending, %d failed, %d lost, %d closed", r.Up, r.Pending, r.Failed, r.Lost, r.Closed)
	for _, p := range r.Pairs {
		if p.State == LinkFailed || p.State == LinkLost {
			fmt.Fprintf(&b, "\n%s: %s after %d attempts: %v", p.Peer.Name, p.State, p.Attempts, p.Err)
		}
	}
	return b.String()
}

// Report says how the links of the group stand now; it may be called at any time.
func (g *Group) Report() GroupReport { return g.pairs.report() }

// pairs keeps the state of a group's links, by the peer's name. Safe for concurrent use.
type pairs struct {
	mu    sync.Mutex
	peers map[string]*pairState
}

type pairState struct {
	PairReport
	conn *Conn
}

// of returns the state of the link to peer, whose latest incarnation it takes it to be. The lock is held.
func (p *pairs) of(peer Peer) *pairState {
	s := p.peers[peer.Name]
	if s == nil || s.Peer.Fingerprint != peer.Fingerprint {
		if p.peers == nil {
			p.peers = make(map[string]*pairState)
		}
		s = &pairState{PairReport: PairReport{Peer: peer}}
		p.peers[peer.Name] = s
	}
	return s
}

func (p *pairs) ordered(s *session, attempt uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.of(s.peer)
	st.State, st.Session, st.Attempts = LinkPending, s.id, attempt
}

func (p *pairs) up(conn *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.of(conn.peer)
	if st.conn != nil && st.conn != conn {
		st.Lost++ // its end is yet to be noticed
	}
	st.State, st.Session, st.conn, st.Err = LinkUp, conn.session.id, conn, nil
}

func (p *pairs) failed(peer Peer, id protocol.SessionID, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.peers[peer.Name]; s != nil && s.Peer.Fingerprint != peer.Fingerprint && (s.State == LinkUp || s.State == LinkPending) {
		return // of an incarnation before this one
	}
	st := p.of(peer)
	if st.Session != id {
		st.Session, st.Attempts = id, 0
	}
	st.State, st.Err = LinkFailed, err
}

// ended notes the end of a connection; it reports whether the link is lost and to be made anew.
func (p *pairs) ended(conn *Conn, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.peers[conn.peer.Name]
	if st == nil || st.conn != conn {
		return false
	}
	st.conn = nil
	lost := errors.Is(err, ErrLinkLost)
	if lost {
		st.Lost++
	}
	if st.State != LinkUp {
		return false // the order for the next one is here already
	}
	st.State, st.Err = LinkClosed, err
	if lost {
		st.State = LinkLost
	}
	return lost
}

// refs lists the peers to which the link is in that state. Of those that are lost, the session is named.
func (p *pairs) refs(state LinkState) (out []*pb.PeerRef) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, st := range p.peers {
		if st.State != state {
			continue
		}
		r := st.Peer.ref()
		if state == LinkLost {
			r.SessionId = st.Session[:]
		}
		out = append(out, r)
	}
	return out
}

func (p *pairs) report() (r GroupReport) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, st := range p.peers {
		r.Pairs = append(r.Pairs, st.PairReport)
		switch st.State {
		case LinkUp:
			r.Up++
		case LinkPending:
			r.Pending++
		case LinkFailed:
			r.Failed++
		case LinkLost:
			r.Lost++
		case LinkClosed:
			r.Closed++
		}
	}
	slices.SortFunc(r.Pairs, func(a, b PairReport) int { return cmp.Compare(a.Peer.Name, b.Peer.Name) })
	return r
}
