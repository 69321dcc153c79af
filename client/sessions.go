package client

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/bradawl/bradawl/protocol"
)

// serverNameSuffix follows the session id in the server name that a dialler sends.
const serverNameSuffix = ".peer.bradawl"

func serverName(id protocol.SessionID) string { return id.String() + serverNameSuffix }

// sessions finds the attempt that a packet belongs to.
type sessions struct {
	mu           sync.RWMutex
	byID         map[protocol.SessionID]*session
	running      map[*attempt]struct{}  // those that expect packets
	expected     map[netip.AddrPort]int // addresses of the peers of listening attempts, counted
	transactions map[[12]byte]responder
}

// responder takes the answer to a STUN request of ours.
type responder interface {
	response(now time.Time, from netip.AddrPort, r protocol.Response)
}

func newSessions() *sessions {
	return &sessions{
		byID:         make(map[protocol.SessionID]*session),
		running:      make(map[*attempt]struct{}),
		expected:     make(map[netip.AddrPort]int),
		transactions: make(map[[12]byte]responder),
	}
}

func (t *sessions) get(id protocol.SessionID) *session {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byID[id]
}

// attempt returns the running attempt of a session.
func (t *sessions) attempt(id protocol.SessionID) *attempt {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s := t.byID[id]
	if s == nil || s.current == nil {
		return nil
	}
	if _, ok := t.running[s.current]; !ok {
		return nil
	}
	return s.current
}

func (t *sessions) byServerName(name string) *attempt {
	hex, ok := strings.CutSuffix(name, serverNameSuffix)
	if !ok {
		return nil
	}
	id, err := protocol.ParseSessionID(hex)
	if err != nil {
		return nil
	}
	a := t.attempt(id)
	if a == nil || a.dialler {
		return nil
	}
	return a
}

// expects tells whether a listening attempt knows the address as one of its peer's. A peer whose NAT maps each destination
// anew may come from any port.
func (t *sessions) expects(from netip.AddrPort) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.expected[from] > 0 || t.expected[anyPort(from)] > 0
}

// anyPort stands for all ports of an address.
func anyPort(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr(), 0) }

// start makes a the running attempt of s, in place of another one, which it returns.
func (t *sessions) start(s *session, a *attempt, from []netip.AddrPort) (old *attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old = s.current
	t.halt(old)
	s.current = a
	t.byID[s.id] = s
	t.running[a] = struct{}{}
	t.expect(a, from)
	return old
}

// expectAlso adds a peer-reflexive address.
func (t *sessions) expectAlso(a *attempt, from netip.AddrPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.running[a]; ok {
		t.expect(a, []netip.AddrPort{from})
	}
}

func (t *sessions) expect(a *attempt, from []netip.AddrPort) {
	if a.dialler {
		return
	}
	for _, f := range from {
		t.expected[f]++
		a.expecting = append(a.expecting, f)
		if a.peerVaries() {
			t.expected[anyPort(f)]++
			a.expecting = append(a.expecting, anyPort(f))
		}
	}
}

// halt is called with the lock held; a may be nil.
func (t *sessions) halt(a *attempt) {
	if _, ok := t.running[a]; !ok {
		return
	}
	delete(t.running, a)
	for _, f := range a.expecting {
		if t.expected[f]--; t.expected[f] <= 0 {
			delete(t.expected, f)
		}
	}
	a.expecting = nil
}

// stop makes the attempt expect nothing any more.
func (t *sessions) stop(a *attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.halt(a)
}

// remove forgets a session.
func (t *sessions) remove(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.halt(s.current)
	if t.byID[s.id] == s {
		delete(t.byID, s.id)
	}
}

// provenAttempt returns the attempt that has made the session's connection, if that is proven and lives.
func (t *sessions) provenAttempt(s *session) *attempt {
	t.mu.RLock()
	a := s.current
	t.mu.RUnlock()
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over && a.err == nil && a.conn != nil && a.conn.qc.Context().Err() == nil {
		return a
	}
	return nil
}

// connEnded forgets a session whose connection is over, unless a later attempt goes on.
func (t *sessions) connEnded(s *session, conn *Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := s.current
	if a == nil || t.byID[s.id] != s {
		return
	}
	a.mu.Lock()
	last := a.conn == conn && a.err == nil
	a.mu.Unlock()
	if last {
		t.halt(a)
		delete(t.byID, s.id)
	}
}

func (t *sessions) sent(tid [12]byte, r responder) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.transactions[tid] = r
}

func (t *sessions) responder(tid [12]byte) responder {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.transactions[tid]
}

func (t *sessions) forget(tids ...[12]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tid := range tids {
		delete(t.transactions, tid)
	}
}
