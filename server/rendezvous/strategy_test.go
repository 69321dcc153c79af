package rendezvous

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

const (
	mapsEI  = pb.MappingBehavior_MAPPING_ENDPOINT_INDEPENDENT
	mapsAD  = pb.MappingBehavior_MAPPING_ADDRESS_DEPENDENT
	mapsAPD = pb.MappingBehavior_MAPPING_ADDRESS_AND_PORT_DEPENDENT

	filtersEI  = pb.FilteringBehavior_FILTERING_ENDPOINT_INDEPENDENT
	filtersAD  = pb.FilteringBehavior_FILTERING_ADDRESS_DEPENDENT
	filtersAPD = pb.FilteringBehavior_FILTERING_ADDRESS_AND_PORT_DEPENDENT
	filtersAny = pb.FilteringBehavior_FILTERING_UNKNOWN
)

func TestStrategiesFollowFromWhatTheNATsDo(t *testing.T) {
	type nat struct {
		m pb.MappingBehavior
		f pb.FilteringBehavior
	}
	for _, tc := range []struct {
		name string
		a, b nat
		want [2]pb.Strategy
	}{
		{"both endpoint-independent", nat{mapsEI, filtersAPD}, nat{mapsEI, filtersAPD}, [2]pb.Strategy{}},
		{"symmetric, port-restricted", nat{mapsAPD, filtersAPD}, nat{mapsEI, filtersAPD}, [2]pb.Strategy{pb.Strategy_MANY_SOCKETS, pb.Strategy_GUESSED_PORTS}},
		{"port-restricted, symmetric", nat{mapsEI, filtersAPD}, nat{mapsAPD, filtersAPD}, [2]pb.Strategy{pb.Strategy_GUESSED_PORTS, pb.Strategy_MANY_SOCKETS}},
		{"address-dependent mapping, port-restricted", nat{mapsAD, filtersAD}, nat{mapsEI, filtersAPD}, [2]pb.Strategy{pb.Strategy_MANY_SOCKETS, pb.Strategy_GUESSED_PORTS}},
		{"symmetric, a firewall without NAT", nat{mapsAPD, filtersAPD}, nat{pb.MappingBehavior_MAPPING_NONE, filtersAPD}, [2]pb.Strategy{pb.Strategy_MANY_SOCKETS, pb.Strategy_GUESSED_PORTS}},
		{"symmetric, address-restricted", nat{mapsAPD, filtersAPD}, nat{mapsEI, filtersAD}, [2]pb.Strategy{}},
		{"symmetric, full cone", nat{mapsAPD, filtersAPD}, nat{mapsEI, filtersEI}, [2]pb.Strategy{}},
		{"symmetric, filter not yet known", nat{mapsAPD, filtersAPD}, nat{mapsEI, filtersAny}, [2]pb.Strategy{}},
		{"two that vary, one open", nat{mapsAPD, filtersAPD}, nat{mapsAPD, filtersEI}, [2]pb.Strategy{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *groupLab) {
				a, b := l.enter("a", "").nat(tc.a.m, tc.a.f, false), l.enter("b", "").nat(tc.b.m, tc.b.f, false)
				a.connect(1, "b", 0)
				for i, o := range []*pb.Session{a.order(), b.order()} {
					if o.Strategy != tc.want[i] {
						t.Errorf("strategy %v, want %v", o.Strategy, tc.want[i])
					}
					switch o.Strategy {
					case pb.Strategy_MANY_SOCKETS:
						if o.Sockets == 0 || o.Sockets > protocol.MaxSockets || o.Role != pb.Session_DIALLER {
							t.Errorf("%d sockets, role %v", o.Sockets, o.Role)
						}
						if o.FireTimeNs < l.g.clock.now()+int64(protocol.MaxGuesses)*1e9/protocol.MaxGuessesPerSecond {
							t.Error("the sockets fire before the guesses are out")
						}
					case pb.Strategy_GUESSED_PORTS:
						if g := o.Guess; g.GetPorts() > protocol.MaxGuesses || g.GetPerSecond() > protocol.MaxGuessesPerSecond || g.GetLowest() < protocol.LowestGuess || o.FireTimeNs != 0 {
							t.Errorf("guess %v at %v", g, o.FireTimeNs)
						}
					}
				}
				a.cancel(1)
			})
		})
	}
}

// Near the server it would fire before the other side has its order, and its INIT meet a closed NAT.
func TestAListenerThatLetsEverybodyInFiresLast(t *testing.T) {
	for _, tc := range []struct {
		m    pb.MappingBehavior
		a, b pb.FilteringBehavior
		last time.Duration // after the dialler; 0: as the order comes in
	}{
		{mapsEI, filtersAPD, filtersEI, fireMargin}, {mapsAPD, filtersAPD, filtersEI, uselessMargin},
		{mapsEI, filtersEI, filtersAPD, 0}, {mapsEI, filtersEI, filtersEI, 0}, {mapsEI, filtersAPD, filtersAPD, 0},
	} {
		inLab(t, func(t *testing.T, l *groupLab) {
			a, b := l.enter("a", "").nat(tc.m, tc.a, false), l.enter("b", "").nat(mapsEI, tc.b, false)
			a.rtt, b.rtt = 100*time.Millisecond, 0
			a.connect(1, "b", 0)
			oa, ob := a.order(), b.order()
			if oa.FireTimeNs != 0 || oa.Role != pb.Session_DIALLER {
				t.Errorf("the dialler is %v and fires at %v", oa.Role, oa.FireTimeNs)
			}
			want := int64(0)
			if tc.last != 0 {
				want = l.g.clock.now() + int64(50*time.Millisecond+tc.last)
			}
			if ob.FireTimeNs != want {
				t.Errorf("%v, %v, %v: the listener fires at %v, want %v", tc.m, tc.a, tc.b, ob.FireTimeNs, want)
			}
			a.cancel(1)
		})
	}
}

func TestSilenceIsFollowedByFreshSockets(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", ""), l.enter("b", "")
		a.connect(1, "b", 0)
		o := a.order()
		b.order()
		a.failed(o)
		b.failed(o)
		pa, pb2 := a.toPrepare(), b.toPrepare()
		if pa.Attempt != 2 || pb2.Attempt != 2 {
			t.Errorf("prepare for %d and %d", pa.Attempt, pb2.Attempt)
		}
		a.prepared(pa, &pb.Prepared{Main: a.witnessed(a.port(7001), stunMain, l.g.clock.now())})
		a.nothing() // b's is awaited
		b.prepared(pb2, &pb.Prepared{Main: b.witnessed(b.port(7002), stunMain, l.g.clock.now())})
		oa, ob := a.order(), b.order()
		for _, x := range []struct {
			o    *pb.Session
			port uint32
		}{{oa, 7002}, {ob, 7001}} {
			if x.o.Strategy != pb.Strategy_FRESH_SOCKET || len(x.o.Candidates) != 1 || x.o.Candidates[0].Address.Port != x.port {
				t.Errorf("order %v, want a fresh socket towards port %d", x.o, x.port)
			}
		}
		if oa.FireTimeNs == 0 || oa.FireTimeNs != ob.FireTimeNs {
			t.Errorf("fire times %d and %d, want a common one", oa.FireTimeNs, ob.FireTimeNs)
		}
		b.proven(ob) // roles are swapped
		a.proven(oa)
		if n := testutil.ToFloat64(l.g.metrics.strategies.WithLabelValues("success", "fresh_socket")); n != 1 {
			t.Errorf("%v successes counted", n)
		}
	})
}

func TestAPeerThatPreparesNothingIsNotWaitedForLong(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", ""), l.enter("b", "")
		a.connect(1, "b", 0)
		o := a.order()
		b.order()
		a.failed(o)
		b.failed(o)
		a.prepared(a.toPrepare(), &pb.Prepared{Main: a.witnessed(a.port(7001), stunMain, l.g.clock.now())})
		b.toPrepare()
		time.Sleep(600 * time.Millisecond)
		synctest.Wait()
		oa, ob := a.order(), b.order()
		if oa.Strategy != pb.Strategy_FRESH_SOCKET || ob.Strategy != pb.Strategy_PLAIN {
			t.Errorf("strategies %v and %v", oa.Strategy, ob.Strategy)
		}
		if oa.Candidates[0].Address.Port != uint32(b.observed.Port()) || ob.Candidates[0].Address.Port != 7001 {
			t.Errorf("candidates %v and %v", oa.Candidates, ob.Candidates)
		}
		a.cancel(1)
	})
}

func TestAPreparingPeerThatVanishesEndsTheSession(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", ""), l.enter("b", "")
		a.connect(1, "b", 0)
		o := a.order()
		b.order()
		a.failed(o)
		b.failed(o)
		a.toPrepare()
		b.leave()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		a.failedWith(pb.Reason_NO_PEER, 1)
	})
}

// A stranger's address must not become a candidate, whatever a peer says.
func TestOnlyWitnessedAddressesOfThePeersOwnBecomeCandidates(t *testing.T) {
	for name, of := range map[string]func(l *groupLab, a *peer) *pb.Witnessed{
		"nothing": func(*groupLab, *peer) *pb.Witnessed { return nil },
		"no witness": func(_ *groupLab, a *peer) *pb.Witnessed {
			return &pb.Witnessed{Address: protocol.AddrToPB(a.port(7001))}
		},
		"another port's": func(l *groupLab, a *peer) *pb.Witnessed {
			w := a.witnessed(a.port(7001), stunMain, l.g.clock.now())
			w.Address.Port++
			return w
		},
		"another socket's": func(l *groupLab, a *peer) *pb.Witnessed {
			return a.witnessed(a.port(7001), stunAlternate, l.g.clock.now())
		},
		"an old one": func(l *groupLab, a *peer) *pb.Witnessed {
			return a.witnessed(a.port(7001), stunMain, l.g.clock.now()-int64(witnessAge)-1)
		},
		"of another IP address": func(l *groupLab, a *peer) *pb.Witnessed {
			return a.witnessed(netip.AddrPortFrom(a.observed.Addr().Next(), 7001), stunMain, l.g.clock.now())
		},
		"an address that is none": func(*groupLab, *peer) *pb.Witnessed {
			return &pb.Witnessed{Address: &pb.Address{Ip: []byte{1}}, Witness: make([]byte, protocol.WitnessLen)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *groupLab) {
				a, b := l.enter("a", ""), l.enter("b", "")
				a.connect(1, "b", 0)
				o := a.order()
				b.order()
				a.failed(o)
				b.failed(o)
				a.prepared(a.toPrepare(), &pb.Prepared{Main: of(l, a)})
				b.prepared(b.toPrepare(), &pb.Prepared{Main: b.witnessed(b.port(7002), stunMain, l.g.clock.now())})
				if o := b.order(); len(o.Candidates) != 1 || o.Candidates[0].Address.Port != uint32(a.observed.Port()) {
					t.Errorf("candidates %v, want the observed address alone", o.Candidates)
				}
				if o := a.order(); o.Strategy != pb.Strategy_PLAIN {
					t.Errorf("strategy %v with a socket that does not count", o.Strategy)
				}
				a.cancel(1)
			})
		})
	}
}

func TestPortsInSequenceArePredictedOnce(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", "").nat(mapsAPD, filtersAPD, true), l.enter("b", "").nat(mapsEI, filtersAPD, false)
		a.connect(1, "b", 0)
		now := l.g.clock.now()
		a.prepared(a.toPrepare(), &pb.Prepared{Main: a.witnessed(a.port(20000), stunMain, now), Alternate: a.witnessed(a.port(20002), stunAlternate, now)})
		oa, ob := a.order(), b.order()
		if oa.Strategy != pb.Strategy_MANY_SOCKETS || oa.Sockets != predictedSockets {
			t.Errorf("the symmetric side has %v, %d sockets", oa.Strategy, oa.Sockets)
		}
		if g := ob.Guess; ob.Strategy != pb.Strategy_PREDICTED_PORTS || g.GetFirst() != 20004 || g.GetStep() != 2 || g.GetPorts() != predictedPorts {
			t.Errorf("the other side has %v, %v", ob.Strategy, g)
		}
		a.failed(oa)
		b.failed(ob)
		if o, p := a.order(), b.order(); o.Sockets != protocol.MaxSockets || p.Strategy != pb.Strategy_GUESSED_PORTS || o.Role != pb.Session_DIALLER {
			t.Errorf("then %v and %v", o, p)
		}
		a.cancel(1)
	})
}

func TestPrediction(t *testing.T) {
	for _, tc := range []struct {
		main, alternate uint16
		first           uint32
		step            int32
		ports           uint32 // 0: none
	}{
		{20000, 20001, 20002, 1, predictedPorts},
		{20001, 20000, 19999, -1, predictedPorts},
		{20000, 20008, 20016, 8, predictedPorts},
		{20000, 20009, 0, 0, 0},
		{20000, 20000, 0, 0, 0},
		{65533, 65534, 65535, 1, 1},
		{65534, 65535, 0, 0, 0},
		{1030, 1028, 1026, -2, 2},
		{1025, 1024, 0, 0, 0},
		{0, 20000, 0, 0, 0},
	} {
		g, ok := predict(tc.main, tc.alternate)
		if ok != (tc.ports > 0) || g.GetFirst() != tc.first || g.GetStep() != tc.step || g.GetPorts() != tc.ports {
			t.Errorf("%d, %d: %v, want %+v", tc.main, tc.alternate, g, tc)
		}
		if last := int64(g.GetFirst()) + int64(g.GetStep())*(int64(g.GetPorts())-1); ok && (last < protocol.LowestGuess || last > 65535) {
			t.Errorf("%d, %d: the last port is %d", tc.main, tc.alternate, last)
		}
	}
}

func TestAPeerThatOpensNoSocketsFailsAtOnce(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", "").nat(mapsAPD, filtersAPD, false), l.enter("b", "").nat(mapsEI, filtersAPD, false)
		a.connect(1, "b", 0)
		o := a.order()
		b.order()
		a.report(o, &pb.Report{Reason: pb.Reason_LIMITED})
		a.failedWith(pb.Reason_MAPPING_VARIES, 1)
		b.failedWith(pb.Reason_MAPPING_VARIES, 0)
	})
}

func TestManySocketsFireWhenTheGuessesAreOut(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", "").nat(mapsAPD, filtersAPD, false), l.enter("b", "").nat(mapsEI, filtersAPD, false)
		a.connect(1, "b", 0)
		o := a.order()
		b.order()
		guessed := func(p *peer, attempt uint32) {
			p.handle(&pb.ClientMessage{Body: &pb.ClientMessage_Guessed{Guessed: &pb.Guessed{SessionId: o.Id, Attempt: attempt}}})
		}
		guessed(b, o.Attempt+1)
		guessed(a, o.Attempt) // it is not a's to say
		a.nothing()
		for range 3 {
			guessed(b, o.Attempt)
		}
		if f := a.next().GetFire(); string(f.GetSessionId()) != string(o.Id) || f.GetAttempt() != o.Attempt {
			t.Errorf("a has %v, want to be told to fire", f)
		}
		a.nothing() // once is enough
		a.failed(o) // b's report is not awaited
		if again := a.order(); again.Attempt != 2 || again.Strategy != pb.Strategy_MANY_SOCKETS {
			t.Errorf("then %v", again)
		}
		a.cancel(1)
	})
}

// Linux gives a socket's later flows the port of its latest one: who was spoilt once is spoilt for all that come next.
func TestASocketThatWasSpoiltIsNotTrustedForAWhile(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b, c := l.enter("a", ""), l.enter("b", ""), l.enter("c", "")
		a.connect(1, "b", 0)
		o := a.order()
		b.order()
		a.failed(o)
		b.failed(o)
		for _, p := range []*peer{a, b} {
			p.prepared(p.toPrepare(), &pb.Prepared{Main: p.witnessed(p.port(7001), stunMain, l.g.clock.now())})
		}
		o = b.order()
		a.order()
		b.proven(o)
		a.proven(o)
		c.connect(1, "b", 0)
		if p := b.toPrepare(); p.Attempt != 1 {
			t.Errorf("a fresh socket in attempt %d", p.Attempt)
		}
		c.cancel(1)
		b.failedWith(pb.Reason_CANCELED, 0)
		c.toPrepare()
		time.Sleep(spoiltFor)
		c.connect(2, "b", 0)
		if o := c.order(); o.Strategy != pb.Strategy_PLAIN {
			t.Errorf("a minute later %v", o.Strategy)
		}
		c.cancel(2)
	})
}

func TestASecondRoundOfGuessesIsFromAFreshSocket(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", "").nat(mapsAPD, filtersAPD, false), l.enter("b", "").nat(mapsEI, filtersAPD, false)
		a.connect(1, "b", 0)
		o := a.order()
		if p := b.order(); p.FromPrepared {
			t.Error("the first round needs a fresh socket")
		}
		a.failed(o)
		a.nothing()
		b.prepared(b.toPrepare(), &pb.Prepared{Main: b.witnessed(b.port(7001), stunMain, l.g.clock.now())})
		oa, ob := a.order(), b.order()
		if !ob.FromPrepared || ob.Strategy != pb.Strategy_GUESSED_PORTS || len(ob.Candidates) != 1 || ob.Candidates[0].Address.Port != uint32(a.observed.Port()) {
			t.Errorf("the guesser has %v", ob)
		}
		if oa.Strategy != pb.Strategy_MANY_SOCKETS || len(oa.Candidates) != 1 || oa.Candidates[0].Address.Port != 7001 {
			t.Errorf("the other side has %v", oa)
		}
		a.proven(oa)
		b.proven(ob)
		a.connect(2, "b", 0)
		if b.toPrepare(); b.spoilt.IsZero() || !a.spoilt.IsZero() {
			t.Error("whose socket is not trusted is not b")
		}
		a.cancel(2)
	})
}

// What is known of the NATs is of the family of the control connections.
func TestPortsAreGuessedInTheFamilyOfTheNATs(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", "").nat(mapsAPD, filtersAPD, false), l.enter("b", "").nat(mapsEI, filtersAPD, false)
		a.second, b.second = netip.MustParseAddrPort("[2001:db8::a]:1"), netip.MustParseAddrPort("[2001:db8:1::b]:1")
		a.connect(1, "b", 0)
		o := a.order() // by IPv6 there may be no NAT at all
		if o.Strategy != pb.Strategy_PLAIN || len(o.Candidates) != 2 {
			t.Errorf("first %v", o)
		}
		b.order()
		a.failed(o)
		b.failed(o)
		for _, o := range []*pb.Session{a.order(), b.order()} {
			if len(o.Candidates) != 1 || len(o.Candidates[0].Address.Ip) != 4 || o.Strategy == pb.Strategy_PLAIN {
				t.Errorf("then %v", o)
			}
		}
		a.cancel(1)
	})
}

func TestOneSessionAtATimeGuessesPortsOfAPeer(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		h := l.enter("h", "").nat(mapsAPD, filtersAPD, false)
		a, b := l.enter("a", "").nat(mapsEI, filtersAPD, false), l.enter("b", "").nat(mapsEI, filtersAPD, false)
		h.connect(1, "a", 0)
		h.connect(2, "b", 0)
		first := h.order()
		h.nothing()
		b.nothing()
		h.proven(first) // the dialler's word gives the turn away
		if o := h.order(); o.RequestId != 2 {
			t.Errorf("then %v", o)
		}
		a.order()
		b.order()
		a.proven(first)
		h.connect(3, "a", 0)
		h.nothing()
		h.cancel(2)
		if o := h.order(); o.RequestId != 3 {
			t.Errorf("after a cancel: %v", o)
		}
		h.connect(4, "b", 0)
		h.cancel(4) // while it waits
		h.connect(5, "b", 0)
		h.nothing()
		time.Sleep(queueLimit)
		synctest.Wait()
		h.cancel(3)
	})
}
