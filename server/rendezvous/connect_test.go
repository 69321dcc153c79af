package rendezvous

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/pb"
)

// inLab runs a test of a group inside a bubble of fake time and checks in the end that nothing is left.
func inLab(t *testing.T, f func(t *testing.T, l *groupLab), change ...func(*rules)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newGroupLab(t, change...)
		stop := l.start()
		f(t, l)
		synctest.Wait()
		l.clean()
		stop()
	})
}

func TestConnectToNobodyIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		a := l.enter("a", "")
		a.connect(1, "b", 0)
		a.refusedFor(1, pb.Reason_NO_PEER)
		a.connect(2, "a", time.Hour)
		a.refusedFor(2, pb.Reason_NO_PEER)
		a.connect(3, "x\ny", time.Hour)
		a.refusedFor(3, pb.Reason_NO_PEER)
	})
}

func TestConnectWaitsForItsPeer(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		a := l.enter("a", "")
		a.connect(1, "b", time.Second)
		time.Sleep(999 * time.Millisecond)
		a.nothing()
		b := l.enter("b", "")
		if o := a.order(); o.RequestId != 1 || o.Peer.Name != "b" || o.Role != pb.Session_DIALLER {
			t.Errorf("order of the asker: %v", o)
		}
		o := b.order()
		if o.RequestId != 0 || o.Peer.Name != "a" || o.Role != pb.Session_LISTENER {
			t.Errorf("order of the other: %v", o)
		}
		a.proven(o)
		b.proven(o)
	})
}

func TestConnectGivesUpWaiting(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		a := l.enter("a", "")
		a.connect(1, "b", time.Second)
		a.connect(2, "c", 2*time.Second)
		a.cancel(2)
		time.Sleep(time.Second)
		synctest.Wait()
		a.refusedFor(1, pb.Reason_NO_PEER)
		a.nothing()
		l.clean()
		l.enter("b", "").nothing()
		l.enter("c", "").nothing()
	})
}

func TestWaitIsBounded(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		a := l.enter("a", "")
		a.connect(1, "b", 1<<62)
		time.Sleep(15 * time.Minute)
		synctest.Wait()
		a.refusedFor(1, pb.Reason_NO_PEER)
	})
}

func TestPeersThatAskAtOnceShareASession(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", ""), l.enter("b", "")
		a.connect(1, "b", 0)
		b.connect(9, "a", 0)
		oa, first, again := a.order(), b.order(), b.order()
		a.nothing()
		if !bytes.Equal(oa.Id, first.Id) || !bytes.Equal(oa.Id, again.Id) || !bytes.Equal(first.Key, again.Key) || first.Attempt != again.Attempt {
			t.Error("two sessions")
		}
		if first.RequestId != 0 || again.RequestId != 9 {
			t.Errorf("request ids %d, %d; want 0, 9", first.RequestId, again.RequestId)
		}
		a.proven(oa)
		b.proven(oa)
		b.connect(10, "a", 0) // no longer at once: another session
		if o := b.order(); bytes.Equal(o.Id, oa.Id) || o.RequestId != 10 {
			t.Errorf("later connect got %v", o)
		}
		b.cancel(10)
	})
}

func TestSecondConnectOfTheSameAskerMakesASecondSession(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", ""), l.enter("b", "")
		a.connect(1, "b", 0)
		a.connect(2, "b", 0)
		one, two := a.order(), a.order()
		if bytes.Equal(one.Id, two.Id) {
			t.Error("one session for two connects")
		}
		for _, o := range []*pb.Session{one, two} {
			a.proven(o)
			b.proven(o)
		}
	})
}

func TestCancelEndsTheSessionForTheOther(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", ""), l.enter("b", "")
		a.connect(1, "b", 0)
		a.order()
		b.order()
		a.cancel(1)
		b.failedWith(pb.Reason_CANCELED, 0)
		a.nothing()
	})
}

func TestCancelOfOneAskerLeavesTheSessionToTheOther(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", ""), l.enter("b", "")
		a.connect(1, "b", 0)
		b.connect(1, "a", 0)
		o := a.order()
		a.cancel(1)
		b.order()
		b.order()
		b.nothing()
		a.proven(o)
		b.proven(o)
	})
}

func TestVanishedPeerEndsItsSessions(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", ""), l.enter("b", "")
		a.connect(1, "b", 0)
		a.order()
		b.leave()
		a.nothing() // it may still report that the path is proven
		time.Sleep(2 * time.Second)
		synctest.Wait()
		a.failedWith(pb.Reason_NO_PEER, 1)
		a.connect(2, "b", 0)
		a.refusedFor(2, pb.Reason_NO_PEER)
		a.connect(3, "b", time.Hour)
		a.leave()
	})
}

func TestPeerThatVanishesWithoutItsReportFailsNobodyWhoHasProvenThePath(t *testing.T) {
	for _, vanishes := range []string{"dialler", "listener"} {
		for _, when := range []string{"before", "after"} {
			t.Run(vanishes+" "+when+" the other's report", func(t *testing.T) {
				inLab(t, func(t *testing.T, l *groupLab) {
					a, b := l.enter("a", ""), l.enter("b", "")
					a.connect(1, "b", 0)
					o := a.order()
					b.order()
					stays, goes := b, a
					if vanishes == "listener" {
						stays, goes = a, b
					}
					if when == "after" {
						stays.proven(o)
						goes.leave()
					} else {
						goes.leave()
						time.Sleep(500 * time.Millisecond)
						stays.proven(o)
					}
					l.clean()
					time.Sleep(5 * time.Second)
					synctest.Wait()
					stays.nothing()
					if n := testutil.ToFloat64(l.g.metrics.sessions.WithLabelValues("success", noReason)); n != 1 {
						t.Errorf("%v successes counted", n)
					}
				})
			})
		}
	}
}

func TestPeerThatVanishesFailsTheOtherAsSoonAsThatReportsAFailure(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", ""), l.enter("b", "")
		a.connect(1, "b", 0)
		o := a.order()
		b.leave()
		a.failed(o)
		a.failedWith(pb.Reason_NO_PEER, 1)
	})
}

func TestBothVanish(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", ""), l.enter("b", "")
		a.connect(1, "b", 0)
		a.order()
		a.leave()
		b.leave()
		if n := testutil.ToFloat64(l.g.metrics.sessions.WithLabelValues("failure", "no_peer")); n != 1 {
			t.Errorf("%v failures counted", n)
		}
	})
}

func TestPeerThatLeavesAfterItsProofDoesNotFailTheOther(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"dialler", "listener"} {
		t.Run(first, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *groupLab) {
				a, b := l.enter("a", ""), l.enter("b", "")
				a.connect(1, "b", 0)
				o := a.order()
				b.order()
				if first == "listener" {
					a, b = b, a
				}
				a.proven(o)
				a.leave()
				b.nothing()
				b.proven(o)
				b.nothing()
			})
		})
	}
}

func TestReplacedIncarnationIsToldAndItsSessionsEnd(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", ""), l.enter("b", "")
		a.connect(1, "b", 0)
		a.order()
		b2, err := l.enterAs("b", "", b.fingerprint)
		if err != nil {
			t.Fatal(err)
		}
		if len(b.closed) != 1 || b.closed[0] != closeReplaced {
			t.Errorf("old incarnation closed with %v", b.closed)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		a.failedWith(pb.Reason_NO_PEER, 1)
		b.leave() // its connection ends later; the new one stays
		a.connect(2, "b", 0)
		o := b2.order()
		a.proven(o)
		b2.proven(o)
	})
}

func TestOpenRequestsAreBounded(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		a := l.enter("a", "")
		for id := range uint64(3) {
			a.connect(id+1, "b", time.Hour)
		}
		a.refusedFor(3, pb.Reason_LIMITED)
		a.leave()
	}, func(r *rules) { r.limits.MaxRequestsPerPeer = 2 })
}

func TestUnfinishedSessionsAreBounded(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", ""), l.enter("b", "")
		a.connect(1, "b", 0)
		o := a.order()
		a.connect(2, "b", 0)
		a.refusedFor(2, pb.Reason_LIMITED)
		b.join(&pb.Join{RequestId: 1, Collective: "c", Kind: pb.Join_MESH, SizeA: 2})
		a.join(&pb.Join{RequestId: 3, Collective: "c", Kind: pb.Join_MESH, SizeA: 2})
		a.refusedFor(3, pb.Reason_LIMITED)
		a.proven(o)
		b.proven(o)
		b.leave()
	}, func(r *rules) { r.budget.max = 1 })
}

func TestWatchIsAnsweredWhenEnoughAreThere(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		a := l.enter("a", "map")
		watch := func(id uint64, role string, least uint32) {
			a.handle(&pb.ClientMessage{Body: &pb.ClientMessage_WatchPeers{WatchPeers: &pb.WatchPeers{RequestId: id, Role: role, Min: least}}})
		}
		watch(1, "", 0)
		if p := a.next().GetPeers(); p.GetRequestId() != 1 || len(p.GetPeers()) != 1 || p.GetPeers()[0].GetName() != "a" {
			t.Errorf("peers now: %v", p)
		}
		watch(2, "reduce", 2)
		watch(3, "reduce", 3)
		l.enter("b", "reduce")
		a.nothing()
		l.enter("c", "reduce")
		if p := a.next().GetPeers(); p.GetRequestId() != 2 || len(p.GetPeers()) != 2 {
			t.Errorf("peers then: %v", p)
		}
		a.cancel(3)
		l.enter("d", "reduce")
		a.nothing()
	})
}

func TestANameIsFreeAsSoonAsItsConnectionIsOver(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		old := l.enter("a", "")
		if _, err := l.enterAs("a", "", identity.Fingerprint{99}); err == nil {
			t.Error("the name of a live peer was given to another key")
		}
		old.over = true // the server has yet to notice
		next, err := l.enterAs("a", "", identity.Fingerprint{99})
		if err != nil || l.g.members["a"] != next.member {
			t.Errorf("the name of a peer that has left is not free: %v", err)
		}
		old.leave()
		if l.g.members["a"] != next.member {
			t.Error("the old peer's end has taken its successor away")
		}
	})
}
