package rendezvous

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/pb"
)

func protocolFrame(t testing.TB, m proto.Message) int {
	t.Helper()
	var b bytes.Buffer
	if err := protocol.WriteMessage(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Len()
}

// Whatever peers do in whatever order, no state outlives them, no session has
// one side only, and every request is answered at most once with an end.
func TestAnyCourseOfEventsLeavesNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.Custom(drawStep), 1, 80).Draw(rt, "steps")
		synctest.Test(t, func(t *testing.T) {
			l := newGroupLab(t, func(r *rules) { r.limits.MaxRequestsPerPeer = 20; r.budget.max = 60 })
			stop := l.start()
			peers := map[string]*peer{}
			for _, s := range steps {
				s.apply(l, peers)
				l.checkSessions()
			}
			for _, p := range peers {
				p.leave()
			}
			synctest.Wait()
			l.clean()
			stop()
		})
		if t.Failed() {
			rt.Fatalf("state is left after %v", steps)
		}
	})
}

// step is one event: kind says which, the rest its parameters.
type step struct {
	kind       int
	who, whom  string
	request    uint64
	key        byte
	reason     int32
	connected  bool
	wait       time.Duration
	collective string
}

func drawStep(t *rapid.T) step {
	name := rapid.SampledFrom([]string{"a", "b", "c", "d"})
	return step{
		kind: rapid.IntRange(0, 11).Draw(t, "kind"), who: name.Draw(t, "who"), whom: name.Draw(t, "whom"),
		request: rapid.Uint64Range(1, 6).Draw(t, "request"), key: rapid.ByteRange(1, 2).Draw(t, "key"),
		reason: rapid.Int32Range(0, 13).Draw(t, "reason"), connected: rapid.Bool().Draw(t, "connected"),
		wait:       rapid.SampledFrom([]time.Duration{0, time.Millisecond, time.Second, 3 * time.Second}).Draw(t, "wait"),
		collective: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "collective"),
	}
}

func (s step) apply(l *groupLab, peers map[string]*peer) {
	p := peers[s.who]
	if p == nil || s.kind == 0 {
		fresh, err := l.enterAs(s.who, "", identity.Fingerprint{s.key, s.who[0]})
		if err == nil {
			peers[s.who] = fresh
		}
		return
	}
	switch s.kind {
	case 1:
		p.leave()
		delete(peers, s.who)
	case 2:
		p.connect(s.request, s.whom, s.wait)
	case 3:
		p.cancel(s.request)
	case 4:
		j := &pb.Join{RequestId: s.request, Collective: s.collective, Kind: pb.Join_MESH, SizeA: 3}
		if o := peers[s.whom]; o != nil && s.connected {
			j.Connected = []*pb.PeerRef{o.refPB()}
		}
		p.join(j)
	case 5:
		p.handle(&pb.ClientMessage{Body: &pb.ClientMessage_Leave{Leave: &pb.Leave{RequestId: s.request}}})
	case 6, 7:
		if o := p.anySession(); o != nil {
			p.report(o, &pb.Report{Reason: pb.Reason(s.reason), InitsOut: 1})
		}
	case 8:
		p.nat(pb.MappingBehavior(s.reason%5), pb.FilteringBehavior(s.request%5), s.connected)
	case 9:
		time.Sleep(s.wait)
		synctest.Wait()
	case 10, 11:
		if m := p.lastPrepare(); m != nil {
			r := &pb.Prepared{}
			if s.connected {
				r.Main = p.witnessed(p.port(20000), stunMain, l.g.clock.now())
				r.Alternate = p.witnessed(p.port(20000+uint16(s.request)), stunAlternate, l.g.clock.now())
			}
			p.prepared(m, r)
		}
	}
}

// lastPrepare is the latest Prepare that the peer has got.
func (p *peer) lastPrepare() *pb.Prepare {
	for i := len(p.sent) - 1; i >= 0; i-- {
		if m := p.sent[i].GetPrepare(); m != nil {
			return m
		}
	}
	return nil
}

// anySession is the first session of the peer's latest order.
func (p *peer) anySession() *pb.Session {
	for i := len(p.sent) - 1; i >= 0; i-- {
		if s := p.sent[i].GetOrder().GetSessions(); len(s) > 0 {
			return s[0]
		}
	}
	return nil
}

// checkSessions finds sessions that only one of their sides, or the budget, knows of.
func (l *groupLab) checkSessions() {
	g := l.g
	g.mu.Lock()
	defer g.mu.Unlock()
	for s := range g.sessions {
		for i := range s.sides {
			m := s.sides[i].m
			if m.sessions[s.id] != s {
				l.t.Error(fmt.Errorf("session %v is unknown to %s", s.id, m.name))
			}
			if g.members[m.name] != m && !s.sides[i].gone {
				l.t.Error(fmt.Errorf("session %v has a side %s that is not signed in", s.id, m.name))
			}
		}
		if s.end.index < 0 {
			l.t.Error(fmt.Errorf("session %v has no deadline", s.id))
		}
	}
	if int(g.budget.used.Load()) != len(g.sessions) || g.sessionsPerGroup != len(g.sessions) {
		l.t.Error(fmt.Errorf("%d sessions, %d taken", len(g.sessions), g.budget.used.Load()))
	}
	for _, m := range g.members {
		for _, s := range m.sessions {
			if _, ok := g.sessions[s]; !ok {
				l.t.Error(fmt.Errorf("%s has a session that the group does not know", m.name))
			}
		}
	}
}
