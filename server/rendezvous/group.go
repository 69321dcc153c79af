package rendezvous

import (
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

// rules is what all groups share. It is not changed after New.
type rules struct {
	clock          clock
	window         time.Duration
	attemptTimeout time.Duration
	maxAttempts    int
	limits         Limits
	metrics        *metrics
	budget         *budget
	witness        protocol.WitnessSecret
}

// budget is a number that is taken from and given back to; safe for concurrent use.
type budget struct {
	max  int64
	used atomic.Int64
}

func (b *budget) take(n int) bool {
	if b.used.Add(int64(n)) > b.max {
		b.used.Add(-int64(n))
		return false
	}
	return true
}

func (b *budget) give(n int) { b.used.Add(-int64(n)) }

// group is the state machine of one group. Each exported step locks it, does
// all that follows from one event and flushes the orders that came of it.
type group struct {
	*rules
	name string
	log  *zap.Logger

	mu          sync.Mutex
	members     map[string]*member
	roles       map[string]int                  // members by role
	waiting     map[string]map[*waiter]struct{} // Connects by the name that they wait for
	watches     map[*watch]struct{}
	collectives map[string]*collective
	sessions    map[*session]struct{}
	queue       []*session             // those that wait for their turn to guess ports
	asked       map[[2]string]*session // the latest unfinished Connect session by asker and peer
	deadlines   deadlines
	dirty       []*member // those with unsent orders
	// sessionsPerGroup is what the group has taken of the budget.
	sessionsPerGroup int
	draining         bool

	wake chan struct{} // says that the earliest deadline has changed
	stop chan struct{} // closed by the registry when the group is empty
}

func newGroup(name string, r *rules, log *zap.Logger) *group {
	return &group{
		rules: r, name: name, log: log.With(zap.String("group", name)),
		members:     map[string]*member{},
		roles:       map[string]int{},
		asked:       map[[2]string]*session{},
		waiting:     map[string]map[*waiter]struct{}{},
		watches:     map[*watch]struct{}{},
		collectives: map[string]*collective{},
		sessions:    map[*session]struct{}{},
		wake:        make(chan struct{}, 1),
		stop:        make(chan struct{}),
	}
}

// run fires the group's deadlines until stop is closed.
func (g *group) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		next, ok := g.nextDeadline()
		if ok {
			timer.Reset(time.Until(next))
		} else {
			timer.Reset(time.Hour)
		}
		select {
		case <-g.stop:
			return
		case <-g.wake:
		case <-timer.C:
			g.expire(time.Now())
		}
	}
}

// handle takes a message of a signed-in peer to the step that it asks for.
func (g *group) handle(m *member, msg *pb.ClientMessage, now time.Time) {
	switch b := msg.GetBody().(type) {
	case *pb.ClientMessage_Connect:
		g.connect(m, b.Connect, now)
	case *pb.ClientMessage_Join:
		g.join(m, b.Join, now)
	case *pb.ClientMessage_Lost:
		g.lost(m, b.Lost, now)
	case *pb.ClientMessage_Leave:
		g.leave(m, b.Leave.GetRequestId(), now)
	case *pb.ClientMessage_Report:
		g.report(m, b.Report, now)
	case *pb.ClientMessage_Cancel:
		g.cancel(m, b.Cancel.GetRequestId(), now)
	case *pb.ClientMessage_NatReport:
		g.natReport(m, b.NatReport)
	case *pb.ClientMessage_Guessed:
		g.guessesOut(m, b.Guessed)
	case *pb.ClientMessage_Prepared:
		g.prepared(m, b.Prepared, now)
	case *pb.ClientMessage_WatchPeers:
		g.watchPeers(m, b.WatchPeers)
	case *pb.ClientMessage_AddressProof:
		g.addressProof(m, b.AddressProof, now)
	case *pb.ClientMessage_SignIn:
		m.link.shut(closeProtocol, "second sign-in")
	default: // a message of a later version
	}
}

func (g *group) nextDeadline() (time.Time, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.deadlines) == 0 {
		return time.Time{}, false
	}
	return g.deadlines[0].at, true
}

// step runs one event under the lock, then sends what came of it.
func (g *group) step(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var before time.Time
	if len(g.deadlines) > 0 {
		before = g.deadlines[0].at
	}
	f()
	g.flush()
	if len(g.deadlines) > 0 && !g.deadlines[0].at.Equal(before) {
		select {
		case g.wake <- struct{}{}:
		default: // a wake-up is waiting already
		}
	}
}

func (g *group) expire(now time.Time) {
	g.step(func() {
		for d := g.deadlines.due(now); d != nil; d = g.deadlines.due(now) {
			d.fire(now)
		}
	})
}

// drain makes the group refuse new requests and tells its members to go.
func (g *group) drain(reconnectAfter time.Duration) {
	g.step(func() {
		g.draining = true
		for _, m := range g.members {
			m.link.enqueue(&pb.ServerMessage{Body: &pb.ServerMessage_Drain{
				Drain: &pb.Drain{ReconnectAfterNs: int64(reconnectAfter)},
			}})
		}
	})
}

// unfinished counts the sessions that have not ended.
func (g *group) unfinished() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for s := range g.sessions {
		if !s.succeeded {
			n++
		}
	}
	return n
}

// admit checks an id of a request and counts it. False: it was answered already.
func (g *group) admit(m *member, requestID uint64) bool {
	switch {
	case m.gone:
		return false
	case requestID == 0 || m.requests[requestID] != nil:
		m.link.shut(closeProtocol, "request id is 0 or in use")
		return false
	case g.draining:
		m.refuse(requestID, protocol.ReasonLimited, "the server is going away; sign in again")
		return false
	case len(m.requests) >= g.limits.MaxRequestsPerPeer:
		m.refuse(requestID, protocol.ReasonLimited, "too many open requests of this peer")
		return false
	}
	return true
}

// Sizes of Order messages. A chunk is far below MaxServerMessage so that the first sessions of a burst do not wait for the last.
const (
	orderChunk       = 64 << 10
	sessionFixedSize = 192 // an upper bound of a Session without its strings and candidates
	candidateSize    = 32  // an upper bound of a Candidate
)

func sessionSize(s *pb.Session) int {
	return sessionFixedSize + len(s.GetPeer().GetName()) + len(s.GetPeer().GetRole()) + len(s.GetCollective()) +
		candidateSize*len(s.GetCandidates())
}

// collect keeps a session for the order that flush sends.
func (g *group) collect(m *member, s *pb.Session) {
	if len(m.unsent) == 0 {
		g.dirty = append(g.dirty, m)
	}
	m.unsent = append(m.unsent, s)
}

// flush sends each member its collected sessions, in as few messages as the bound allows.
func (g *group) flush() {
	for _, m := range g.dirty {
		all := m.unsent
		m.unsent = nil
		start, size := 0, 0
		for i, s := range all {
			n := sessionSize(s)
			if size+n > orderChunk && i > start {
				g.sendOrder(m, all[start:i])
				start, size = i, 0
			}
			size += n
		}
		g.sendOrder(m, all[start:])
	}
	clear(g.dirty)
	g.dirty = g.dirty[:0]
}

func (g *group) sendOrder(m *member, sessions []*pb.Session) {
	g.metrics.orders.Inc()
	g.metrics.ordered.Add(float64(len(sessions)))
	m.link.enqueue(&pb.ServerMessage{Body: &pb.ServerMessage_Order{Order: &pb.Order{Sessions: sessions}}})
}
