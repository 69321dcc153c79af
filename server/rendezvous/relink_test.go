package rendezvous

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

// loses says that links of the collective joined with request id are lost; without a session, that they never came to be.
func (p *peer) loses(id uint64, of *peer, session []byte) {
	link := of.refPB()
	link.SessionId = session
	p.handle(&pb.ClientMessage{Body: &pb.ClientMessage_Lost{Lost: &pb.Lost{RequestId: id, Links: []*pb.PeerRef{link}}}})
}

// linkedPair joins two peers to a mesh and links them; it returns the session.
func linkedPair(l *groupLab) (a, b *peer, link []byte) {
	a, b = l.enter("a", ""), l.enter("b", "")
	a.join(mesh(1, 2))
	b.join(mesh(2, 2))
	o := a.order()
	b.order()
	a.proven(o)
	b.proven(o)
	return a, b, o.Id
}

func TestLostLinkIsMadeAnewOnceWhoeverSaysSo(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b, link := linkedPair(l)
		b.loses(2, a, link)
		oa, ob := a.order(), b.order()
		if !bytes.Equal(oa.Id, ob.Id) || bytes.Equal(oa.Id, link) || !bytes.Equal(oa.Replaces, link) || !bytes.Equal(ob.Replaces, link) {
			t.Errorf("orders %v and %v do not replace %x", oa, ob, link)
		}
		if oa.RequestId != 1 || ob.RequestId != 2 || oa.Collective != "c" {
			t.Errorf("orders %v and %v", oa, ob)
		}
		a.loses(1, b, link) // the other side notices a little later
		a.nothing()
		b.nothing()
		a.proven(oa)
		b.proven(ob)
		a.loses(1, b, link) // or even later
		a.nothing()
		b.nothing()
		a.loses(1, b, oa.Id) // the new one is lost, too
		if o := a.order(); !bytes.Equal(o.Replaces, oa.Id) || !bytes.Equal(b.order().Replaces, oa.Id) {
			t.Errorf("order %v does not replace %x", o, oa.Id)
		}
		a.leave()
		b.leave()
	})
}

func TestFailedPairIsTriedAgainOnRequestOnly(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		l.g.maxAttempts = 1
		a, b := l.enter("a", ""), l.enter("b", "")
		a.join(mesh(1, 2))
		b.join(mesh(2, 2))
		a.loses(1, b, nil) // there is a session already
		o := a.order()
		a.nothing()
		b.order()
		a.failed(o)
		b.failed(o)
		a.failedWith(pb.Reason_NO_INBOUND, 1)
		b.failedWith(pb.Reason_NO_INBOUND, 2)
		b.loses(2, a, nil)
		again := b.order()
		if got := a.order(); !bytes.Equal(got.Id, again.Id) || len(again.Replaces) != 0 || bytes.Equal(again.Id, o.Id) {
			t.Errorf("orders %v and %v", got, again)
		}
		a.proven(again)
		b.proven(again)
		a.loses(1, b, nil) // there is a link
		a.nothing()
		b.nothing()
		a.leave()
		b.leave()
	})
}

func TestLinkLostWhileTheOtherSideIsAwayIsMadeWhenItIsBack(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		inLab(t, func(t *testing.T, l *groupLab) {
			a, b, link := linkedPair(l)
			b.leave()
			if restarted { // the server has forgotten all but what the two say
				a.leave()
				a, _ = l.enterAs("a", "", a.fingerprint)
				a.join(mesh(1, 2))
			}
			a.loses(1, b, link)
			a.nothing()
			back, err := l.enterAs("b", "", b.fingerprint)
			if err != nil {
				t.Fatal(err)
			}
			j := mesh(3, 2, a) // it has not noticed yet
			j.Connected[0].SessionId = link
			back.join(j)
			if oa, ob := a.order(), back.order(); !bytes.Equal(oa.Replaces, link) || !bytes.Equal(oa.Id, ob.Id) {
				t.Errorf("restarted %v: orders %v and %v", restarted, oa, ob)
			}
			a.leave()
			back.leave()
		})
	}
}

func TestLossesThatCannotBeHealedNowAreAnswered(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b, link := linkedPair(l)
		l.g.limits.MaxSessionsPerGroup = 0
		a.loses(1, b, link)
		a.failedWith(pb.Reason_LIMITED, 1)
		b.nothing()
		l.g.limits.MaxSessionsPerGroup = 10
		l.g.drain(time.Second)
		a.next()
		b.next()
		a.loses(1, b, nil)
		a.failedWith(pb.Reason_LIMITED, 1)
		b.nothing()
		a.leave()
		b.leave()
	})
}

func TestHostileLossesLeadToNothing(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b, link := linkedPair(l)
		stranger := l.enter("stranger", "")
		stranger.loses(1, a, link) // no member
		a.loses(9, b, link)        // no such request
		a.loses(1, a, nil)         // itself
		a.loses(1, stranger, nil)
		for _, p := range []*pb.PeerRef{{}, {Name: "b"}, {Name: "b", Fingerprint: link}, {Name: "b", Fingerprint: b.fingerprint[:], SessionId: []byte{1}}} {
			a.handle(&pb.ClientMessage{Body: &pb.ClientMessage_Lost{Lost: &pb.Lost{RequestId: 1, Links: []*pb.PeerRef{p}}}})
		}
		for _, p := range []*peer{a, b, stranger} {
			p.nothing()
		}
		for i := range 100 { // incarnations that never were
			p := &pb.PeerRef{Name: "ghost", Fingerprint: bytes.Repeat([]byte{byte(i + 1)}, 32), SessionId: link}
			a.handle(&pb.ClientMessage{Body: &pb.ClientMessage_Lost{Lost: &pb.Lost{RequestId: 1, Links: []*pb.PeerRef{p}}}})
		}
		l.g.mu.Lock()
		kept := len(l.g.collectives["c"].members["a"].lost)
		l.g.mu.Unlock()
		if kept > l.g.limits.MaxPeersPerGroup {
			t.Errorf("%d losses are kept", kept)
		}
		for _, p := range []*peer{a, b, stranger} {
			p.leave()
		}
		synctest.Wait()
	}, func(r *rules) { r.limits.MaxPeersPerGroup = 10 })
}

func TestConnectThatReplacesALinkTellsBoth(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", ""), l.enter("b", "")
		old := protocol.NewSessionID()
		ask := func(p *peer, to string) {
			p.handle(&pb.ClientMessage{Body: &pb.ClientMessage_Connect{Connect: &pb.Connect{RequestId: 1, Peer: to, WaitNs: int64(time.Second), Replaces: old[:]}}})
		}
		ask(a, "b")
		if oa, ob := a.order(), b.order(); !bytes.Equal(oa.Replaces, old[:]) || !slices.Equal(ob.Replaces, old[:]) {
			t.Errorf("orders %v and %v do not replace %x", oa, ob, old)
		}
		ask(b, "a") // at the same time: one session
		if o := b.order(); o.RequestId != 1 || !bytes.Equal(o.Replaces, old[:]) {
			t.Errorf("order %v", o)
		}
		a.nothing()
		a.leave()
		b.leave()
	})
}

func TestAttemptToAnOldAddressBeginsAnew(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b, link := linkedPair(l)
		b.loses(2, a, link)
		first := a.order()
		b.order()
		at := netip.MustParseAddrPort("203.0.113.77:7777")
		for range 2 { // told twice
			l.g.moved(b.member, at, time.Now())
		}
		again := a.order()
		if !bytes.Equal(again.Id, first.Id) || again.Attempt != 2 || !bytes.Equal(again.Replaces, link) {
			t.Errorf("%v follows %v", again, first)
		}
		if got, err := protocol.AddrFromPB(again.Candidates[0].Address); err != nil || got != at {
			t.Errorf("a is sent to %v, not %v", got, at)
		}
		b.order()
		a.nothing()
		for i := range 10 { // no address is worth endless attempts
			l.g.moved(b.member, netip.AddrPortFrom(at.Addr(), uint16(i+1)), time.Now())
		}
		n := 0
		for a.next() != nil {
			n++
		}
		if n != maxMoved-1 {
			t.Errorf("%d more attempts, want %d", n, maxMoved-1)
		}
		a.leave()
		b.leave()
	})
}
