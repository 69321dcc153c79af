package rendezvous

import (
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/pb"
)

// groupLab is one group without a network: what it sends is recorded.
type groupLab struct {
	t        testing.TB
	g        *group
	registry *prometheus.Registry
	nextID   uint64
	nextKey  byte
	peers    []*peer
}

// newGroupLab makes a group whose goroutine runs until the test ends; call it inside a synctest bubble, with stop at its end.
func newGroupLab(t testing.TB, change ...func(*rules)) *groupLab {
	t.Helper()
	reg := prometheus.NewRegistry()
	m, err := newMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	l := Limits{}.withDefaults()
	r := &rules{
		clock: newClock(), window: protocol.DefaultWindow, attemptTimeout: 1500 * time.Millisecond, maxAttempts: 3,
		limits: l, metrics: m, budget: &budget{max: int64(l.MaxSessions)},
		witness: protocol.NewWitnessSecret(),
	}
	for _, f := range change {
		f(r)
	}
	return &groupLab{t: t, g: newGroup("g", r, zap.NewNop()), registry: reg}
}

func (l *groupLab) start() (stop func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.g.run()
	}()
	return func() {
		close(l.g.stop)
		<-done
	}
}

// peer is a member with a recorder in place of a connection.
type peer struct {
	*member
	l      *groupLab
	rtt    time.Duration
	wobble time.Duration // the deviation of rtt
	sent   []*pb.ServerMessage
	closed []closeCode
	over   bool // the connection has ended
}

func (p *peer) enqueue(m *pb.ServerMessage)   { p.sent = append(p.sent, m) }
func (p *peer) roundTrip() time.Duration      { return p.rtt }
func (p *peer) deviation() time.Duration      { return p.wobble }
func (p *peer) ended() bool                   { return p.over }
func (p *peer) shut(code closeCode, _ string) { p.closed = append(p.closed, code) }
func (p *peer) handle(m *pb.ClientMessage)    { p.l.g.handle(p.member, m, time.Now()) }
func (p *peer) leave()                        { p.l.g.exit(p.member, time.Now()) }
func (p *peer) maps(behavior pb.MappingBehavior) *peer {
	p.handle(&pb.ClientMessage{Body: &pb.ClientMessage_NatReport{NatReport: &pb.NatReport{Mapping: behavior}}})
	return p
}

// nat reports a NAT's behaviour.
func (p *peer) nat(m pb.MappingBehavior, f pb.FilteringBehavior, inSequence bool) *peer {
	p.handle(&pb.ClientMessage{Body: &pb.ClientMessage_NatReport{NatReport: &pb.NatReport{
		Mapping: m, Filtering: f, PortsInSequence: inSequence}}})
	return p
}

// enter signs a peer in with a key of its own.
func (l *groupLab) enter(name, role string) *peer {
	l.t.Helper()
	l.nextKey++
	p, err := l.enterAs(name, role, identity.Fingerprint{l.nextKey})
	if err != nil {
		l.t.Fatal(err)
	}
	return p
}

func (l *groupLab) enterAs(name, role string, key identity.Fingerprint) (*peer, error) {
	l.nextID++
	p := &peer{l: l, rtt: 20 * time.Millisecond, member: &member{
		id: l.nextID, name: name, role: role, fingerprint: key,
		observed: netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(l.nextID)}), 4000),
	}}
	p.link = p
	l.peers = append(l.peers, p)
	return p, l.g.enter(p.member, time.Now())
}

// next takes the oldest message that the peer has not looked at; nil if there is none.
func (p *peer) next() *pb.ServerMessage {
	p.l.g.mu.Lock()
	defer p.l.g.mu.Unlock()
	if len(p.sent) == 0 {
		return nil
	}
	m := p.sent[0]
	p.sent = p.sent[1:]
	return m
}

// sessions takes the sessions of the next message, which must be an order.
func (p *peer) sessions() []*pb.Session {
	p.l.t.Helper()
	for _, q := range p.l.peers { // not for those who are interested
		q.cannotPrepare()
	}
	m := p.next()
	if m.GetOrder() == nil {
		p.l.t.Fatalf("%s has %v, want an order", p.name, m)
	}
	return m.GetOrder().GetSessions()
}

// order takes the next message, which must be an order of one session.
func (p *peer) order() *pb.Session {
	p.l.t.Helper()
	s := p.sessions()
	if len(s) != 1 {
		p.l.t.Fatalf("%s has an order of %d sessions, want 1", p.name, len(s))
	}
	return s[0]
}

// toPrepare takes the next message, which must be a Prepare.
func (p *peer) toPrepare() *pb.Prepare {
	p.l.t.Helper()
	m := p.next()
	if m.GetPrepare() == nil {
		p.l.t.Fatalf("%s has %v, want a Prepare", p.name, m)
	}
	return m.GetPrepare()
}

// cannotPrepare answers the next message if it is a Prepare: no socket can be opened.
func (p *peer) cannotPrepare() {
	p.l.g.mu.Lock()
	var m *pb.Prepare
	if len(p.sent) > 0 {
		m = p.sent[0].GetPrepare()
	}
	p.l.g.mu.Unlock()
	if m != nil {
		p.prepared(p.toPrepare(), &pb.Prepared{})
	}
}

// prepared answers a Prepare.
func (p *peer) prepared(to *pb.Prepare, r *pb.Prepared) {
	r.SessionId, r.Attempt = to.SessionId, to.Attempt
	p.handle(&pb.ClientMessage{Body: &pb.ClientMessage_Prepared{Prepared: r}})
}

// witnessed is an address of the peer as a socket of the server sees it at an instant.
func (p *peer) witnessed(a netip.AddrPort, by stunSocket, at int64) *pb.Witnessed {
	return &pb.Witnessed{Address: protocol.AddrToPB(a), Witness: p.l.g.witness.Make(a, byte(by), at)}
}

// port is the peer's observed address with another port.
func (p *peer) port(n uint16) netip.AddrPort { return netip.AddrPortFrom(p.observed.Addr(), n) }

// nothing checks that no message is there.
func (p *peer) nothing() {
	p.l.t.Helper()
	if m := p.next(); m != nil {
		p.l.t.Fatalf("%s has %v, want nothing", p.name, m)
	}
}

func (p *peer) refusedFor(id uint64, why pb.Reason) {
	p.l.t.Helper()
	if r := p.next().GetRefused(); r.GetRequestId() != id || r.GetReason() != why || r.GetDetail() == "" {
		p.l.t.Fatalf("%s is refused with %v, want %v of %d", p.name, r, why, id)
	}
}

func (p *peer) failedWith(why pb.Reason, requestID uint64) {
	p.l.t.Helper()
	m := p.next()
	if f := m.GetFailed(); f.GetReason() != why || f.GetRequestId() != requestID || f.GetDetail() == "" || f.GetPeer().GetName() == "" {
		p.l.t.Fatalf("%s has %v, want a failure %v of request %d", p.name, m, why, requestID)
	}
}

func (p *peer) connect(id uint64, to string, wait time.Duration) {
	p.handle(&pb.ClientMessage{Body: &pb.ClientMessage_Connect{Connect: &pb.Connect{RequestId: id, Peer: to, WaitNs: int64(wait)}}})
}

func (p *peer) cancel(id uint64) {
	p.handle(&pb.ClientMessage{Body: &pb.ClientMessage_Cancel{Cancel: &pb.Cancel{RequestId: id}}})
}

func (p *peer) join(j *pb.Join) {
	p.handle(&pb.ClientMessage{Body: &pb.ClientMessage_Join{Join: j}})
}

func (p *peer) report(s *pb.Session, r *pb.Report) {
	r.SessionId, r.Attempt = s.Id, s.Attempt
	p.handle(&pb.ClientMessage{Body: &pb.ClientMessage_Report{Report: r}})
}

// proven reports success.
func (p *peer) proven(s *pb.Session) { p.report(s, &pb.Report{}) }

// failed reports what a peer to which nothing came in sees.
func (p *peer) failed(s *pb.Session) {
	p.report(s, &pb.Report{Reason: pb.Reason_NO_INBOUND, InitsOut: 10})
}

// clean checks that nothing is left of sessions, requests and collectives, whoever is still signed in.
func (l *groupLab) clean() {
	l.t.Helper()
	g := l.g
	g.mu.Lock()
	defer g.mu.Unlock()
	left := map[string]int{
		"waiting": len(g.waiting), "watches": len(g.watches), "collectives": len(g.collectives), "sessions": len(g.sessions),
		"asked": len(g.asked), "deadlines": len(g.deadlines), "dirty": len(g.dirty), "queue": len(g.queue), "taken": g.sessionsPerGroup,
		"budget": int(g.budget.used.Load()),
	}
	for _, m := range g.members {
		left["requests of "+m.name] = len(m.requests)
		left["sessions of "+m.name] = len(m.sessions)
		left["collectives of "+m.name] = len(m.collectives)
		if m.guessing != nil {
			left["turns of "+m.name] = 1
		}
	}
	if len(g.members) == 0 {
		left["roles"] = len(g.roles)
	}
	for what, n := range left {
		if n != 0 {
			l.t.Errorf("%d of %s are left", n, what)
		}
	}
}
