package rendezvous

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

func TestFailedAttemptIsRetriedWithRolesSwappedAtOneInstant(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", ""), l.enter("b", "")
		b.rtt = 100 * time.Millisecond
		a.connect(1, "b", 0)
		o1 := a.order()
		b.order()
		if o1.FireTimeNs != 0 {
			t.Error("the first attempt has a fire time")
		}
		came := func() *pb.Report { return &pb.Report{Reason: pb.Reason_QUIC_TIMEOUT, InitsOut: 9, InitsIn: 9} }
		a.report(o1, came())
		a.nothing() // b's report is awaited
		b.report(o1, came())
		o2, p2 := a.order(), b.order()
		if !bytes.Equal(o2.Id, o1.Id) || o2.Attempt != 2 || bytes.Equal(o2.Key, o1.Key) || !bytes.Equal(o2.Key, p2.Key) {
			t.Errorf("second attempt %v after %v", o2, o1)
		}
		if o1.Role != pb.Session_DIALLER || o2.Role != pb.Session_LISTENER || p2.Role != pb.Session_DIALLER {
			t.Errorf("roles %v, then %v and %v", o1.Role, o2.Role, p2.Role)
		}
		if want := l.g.clock.now() + int64(50*time.Millisecond+fireMargin); o2.FireTimeNs != want || p2.FireTimeNs != want {
			t.Errorf("fire times %d and %d, want %d", o2.FireTimeNs, p2.FireTimeNs, want)
		}
		a.proven(o1) // late, of the first attempt: ignored
		b.proven(p2) // b dials now
		a.proven(p2)
		a.nothing()
		b.nothing()
	})
}

func TestAttemptEndsWithoutReports(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", ""), l.enter("b", "")
		a.connect(1, "b", 0)
		a.order()
		b.order()
		for attempt := uint32(2); attempt <= 3; attempt++ {
			time.Sleep(3 * time.Second)
			synctest.Wait()
			a.nothing() // they may be proving a connection
			time.Sleep(provingGrace)
			synctest.Wait()
			if o := a.order(); o.Attempt != attempt {
				t.Errorf("attempt %d, want %d", o.Attempt, attempt)
			}
			b.order()
		}
		time.Sleep(3*time.Second + provingGrace)
		synctest.Wait()
		a.failedWith(pb.Reason_QUIC_TIMEOUT, 1)
		b.failedWith(pb.Reason_QUIC_TIMEOUT, 0)
	})
}

func TestListenersProofCountsWhenTheDiallersReportIsLost(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", ""), l.enter("b", "")
		a.connect(1, "b", 0)
		b.proven(a.order())
		b.order()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		a.nothing()
		b.nothing()
	})
}

func TestReasonOfAFailure(t *testing.T) {
	t.Parallel()
	const apd, ei = pb.MappingBehavior_MAPPING_ADDRESS_AND_PORT_DEPENDENT, pb.MappingBehavior_MAPPING_ENDPOINT_INDEPENDENT
	silent := func() *pb.Report { return &pb.Report{Reason: pb.Reason_NO_INBOUND, InitsOut: 9} }
	heard := func(why pb.Reason) *pb.Report { return &pb.Report{Reason: why, InitsOut: 9, InitsIn: 9} }
	for _, tc := range []struct {
		name         string
		mapA, mapB   pb.MappingBehavior
		a, b         *pb.Report
		want         pb.Reason
		wantAttempts int
	}{
		{"nothing came in", ei, ei, silent(), silent(), pb.Reason_NO_INBOUND, 3},
		{"nothing came in on one side", ei, ei, silent(), heard(pb.Reason_QUIC_TIMEOUT), pb.Reason_NO_INBOUND, 3},
		{"one symmetric NAT", ei, apd, silent(), silent(), pb.Reason_MAPPING_VARIES, 3},
		{"handshake lost", ei, ei, heard(pb.Reason_QUIC_TIMEOUT), heard(pb.Reason_QUIC_TIMEOUT), pb.Reason_QUIC_TIMEOUT, 3},
		{"proof lost", ei, ei, heard(pb.Reason_PROOF_FAILED), heard(pb.Reason_QUIC_TIMEOUT), pb.Reason_PROOF_FAILED, 3},
		{"the window missed as reported", ei, ei, heard(pb.Reason_WINDOW_MISSED), heard(pb.Reason_WINDOW_MISSED), pb.Reason_WINDOW_MISSED, 3},
		{"somebody else answered", ei, ei, heard(pb.Reason_IDENTITY_MISMATCH), nil, pb.Reason_IDENTITY_MISMATCH, 1},
		{"one side gave up", ei, ei, nil, heard(pb.Reason_CANCELED), pb.Reason_CANCELED, 1},
		{"a reason of a later version", ei, ei, heard(1000), nil, pb.Reason_CANCELED, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *groupLab) {
				a, b := l.enter("a", "").maps(tc.mapA), l.enter("b", "").maps(tc.mapB)
				a.connect(1, "b", 0)
				for range tc.wantAttempts {
					o := a.order()
					b.order()
					if tc.a != nil {
						a.report(o, tc.a)
					}
					if tc.b != nil {
						b.report(o, tc.b)
					}
				}
				a.failedWith(tc.want, 1)
				b.failedWith(tc.want, 0)
				pair := natPair(tc.mapA, tc.mapB)
				word := string(protocol.ReasonFromPB(tc.want))
				if n := testutil.ToFloat64(l.g.metrics.attempts.WithLabelValues("failure", word, pair)); int(n) != tc.wantAttempts {
					t.Errorf("%v attempts counted, want %d", n, tc.wantAttempts)
				}
				if n := testutil.ToFloat64(l.g.metrics.sessions.WithLabelValues("failure", word)); n != 1 {
					t.Errorf("%v sessions counted", n)
				}
			})
		})
	}
}

func TestWindowMissedIsFoundFromBothReports(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", ""), l.enter("b", "")
		a.connect(1, "b", 0)
		for range 3 {
			o := a.order()
			b.order()
			now := l.g.clock.now()
			time.Sleep(time.Second)
			a.report(o, &pb.Report{Reason: pb.Reason_NO_INBOUND, InitsOut: 3, FirstInitOutNs: now})
			b.report(o, &pb.Report{Reason: pb.Reason_NO_INBOUND, InitsOut: 3, FirstInitOutNs: now + int64(501*time.Millisecond)})
		}
		a.failedWith(pb.Reason_WINDOW_MISSED, 1)
		b.failedWith(pb.Reason_WINDOW_MISSED, 0)
		if n := testutil.ToFloat64(l.g.metrics.outsideWindow); n != 3 {
			t.Errorf("%v outside the window", n)
		}
	})
}

func TestTwoSymmetricNATsFailWithoutAnAttempt(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		const apd, filter = pb.MappingBehavior_MAPPING_ADDRESS_AND_PORT_DEPENDENT, pb.FilteringBehavior_FILTERING_ADDRESS_AND_PORT_DEPENDENT
		a, b := l.enter("a", "").nat(apd, filter, false), l.enter("b", "").nat(apd, filter, false)
		a.connect(1, "b", 0)
		a.refusedFor(1, pb.Reason_MAPPING_VARIES)
		b.nothing()
		c := l.enter("c", "").nat(apd, filter, false)
		c.observed = netip.AddrPortFrom(a.observed.Addr(), 1) // behind the same NAT
		a.connect(2, "c", 0)
		a.cancel(a.order().RequestId)
	})
}

func TestSymmetricNATsThatAreNoticedLateAreNotRetried(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		const apd = pb.MappingBehavior_MAPPING_ADDRESS_AND_PORT_DEPENDENT
		a, b := l.enter("a", ""), l.enter("b", "")
		a.connect(1, "b", 0)
		o := a.order()
		if quiet := time.Duration(o.QuietNs); quiet <= 0 || quiet > 500*time.Millisecond {
			t.Errorf("the attempt goes on for %v if nothing comes in", quiet)
		}
		b.order()
		a.maps(apd).failed(o)
		b.maps(apd).failed(o)
		a.failedWith(pb.Reason_MAPPING_VARIES, 1)
		b.failedWith(pb.Reason_MAPPING_VARIES, 0)
	})
}

func TestFireTimes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name       string
		rttA, rttB time.Duration
		deviationB time.Duration
		exact      bool
		want       time.Duration // after now; 0: as the order comes in
	}{
		{"as the order comes in", 10 * time.Millisecond, 200 * time.Millisecond, 10 * time.Millisecond, false, 0},
		{"exact", 10 * time.Millisecond, 200 * time.Millisecond, 0, true, 110 * time.Millisecond},
		{"exact, on a way that varies", 10 * time.Millisecond, 200 * time.Millisecond, 10 * time.Millisecond, true, 130 * time.Millisecond},
		{"exact, on a way not yet known", 10 * time.Millisecond, 200 * time.Millisecond, 100 * time.Millisecond, true, 210 * time.Millisecond},
		{"ways too different for the window", 0, 600 * time.Millisecond, 0, false, 310 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *groupLab) {
				a, b := l.enter("a", ""), l.enter("b", "")
				a.rtt, b.rtt, b.wobble = tc.rttA, tc.rttB, tc.deviationB
				a.handle(&pb.ClientMessage{Body: &pb.ClientMessage_Connect{Connect: &pb.Connect{RequestId: 1, Peer: "b", Exact: tc.exact}}})
				oa, ob := a.order(), b.order()
				want := int64(0)
				if tc.want != 0 {
					want = l.g.clock.now() + int64(tc.want)
				}
				if oa.FireTimeNs != want || ob.FireTimeNs != want {
					t.Errorf("fire times %d and %d, want %d", oa.FireTimeNs, ob.FireTimeNs, want)
				}
				if least := int64(1500*time.Millisecond + 2*(tc.rttA+tc.rttB)); oa.GiveUpNs != least {
					t.Errorf("gives up after %v", time.Duration(oa.GiveUpNs))
				}
				a.cancel(1)
			})
		})
	}
}

func TestHarderNATDials(t *testing.T) {
	t.Parallel()
	order := []pb.MappingBehavior{
		pb.MappingBehavior_MAPPING_NONE, pb.MappingBehavior_MAPPING_ENDPOINT_INDEPENDENT, pb.MappingBehavior_MAPPING_UNKNOWN,
		pb.MappingBehavior_MAPPING_ADDRESS_DEPENDENT, pb.MappingBehavior_MAPPING_ADDRESS_AND_PORT_DEPENDENT,
	}
	for i, asker := range order {
		for j, other := range order {
			if i == 4 && j == 4 {
				continue // not ordered at all
			}
			t.Run(fmt.Sprintf("%s asks %s", mappingLabel(asker), mappingLabel(other)), func(t *testing.T) {
				inLab(t, func(t *testing.T, l *groupLab) {
					a := l.enter("a", "").maps(asker)
					l.enter("b", "").maps(other)
					a.connect(1, "b", 0)
					want := pb.Session_DIALLER
					if j > i {
						want = pb.Session_LISTENER
					}
					o := a.order()
					if o.Role != want {
						t.Errorf("the asker is %v", o.Role)
					}
					kind := pb.Candidate_SERVER_REFLEXIVE
					if other == pb.MappingBehavior_MAPPING_NONE {
						kind = pb.Candidate_HOST
					}
					if len(o.Candidates) != 1 || o.Candidates[0].Type != kind {
						t.Errorf("candidates %v", o.Candidates)
					}
					a.cancel(1)
				})
			})
		}
	}
}

func TestHostCandidatesAreOnlyForPeersBehindTheSameAddress(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b, c := l.enter("a", ""), l.enter("b", ""), l.enter("c", "")
		b.observed = netip.MustParseAddrPort("203.0.113.1:4001")
		a.observed = netip.MustParseAddrPort("203.0.113.1:4000")
		claimed := []*pb.Address{
			nil, {Ip: []byte{1, 2, 3}, Port: 5}, {Ip: []byte{10, 0, 0, 1}},
			protocol.AddrToPB(netip.MustParseAddrPort("10.0.0.2:5000")),
			protocol.AddrToPB(netip.MustParseAddrPort("198.51.100.7:53")), // a stranger
			protocol.AddrToPB(netip.MustParseAddrPort("127.0.0.1:5000")),
			protocol.AddrToPB(netip.MustParseAddrPort("224.0.0.1:5000")),
			protocol.AddrToPB(netip.MustParseAddrPort("203.0.113.1:4001")),
			protocol.AddrToPB(netip.MustParseAddrPort("[fd00::1]:5000")),
			protocol.AddrToPB(netip.MustParseAddrPort("100.64.0.9:5000")),
		}
		b.hosts = vetHosts(claimed, b.observed)
		a.connect(1, "b", 0)
		var got []string
		for _, x := range a.order().Candidates {
			at, err := protocol.AddrFromPB(x.Address)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, at.String())
		}
		if want := "[203.0.113.1:4001 10.0.0.2:5000 [fd00::1]:5000 100.64.0.9:5000]"; fmt.Sprint(got) != want {
			t.Errorf("candidates %v, want %v", got, want)
		}
		c.connect(1, "b", 0)
		if n := len(c.order().Candidates); n != 1 {
			t.Errorf("a stranger gets %d candidates", n)
		}
		a.cancel(1)
		c.cancel(1)
		for range 20 {
			claimed = append(claimed, claimed[3])
		}
		if n := len(vetHosts(claimed, b.observed)); n != protocol.MaxHostCandidates {
			t.Errorf("%d host candidates are kept", n)
		}
	})
}

func TestAbsurdReportsDoNotEnterTheHistograms(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", ""), l.enter("b", "")
		for i, at := range []int64{-1, 1, 1 << 62, l.g.clock.now() - int64(time.Hour), l.g.clock.now() + int64(time.Hour)} {
			a.connect(uint64(i+1), "b", 0)
			o := a.order()
			r := func() *pb.Report {
				return &pb.Report{FirstInitOutNs: at, FirstInitInNs: at, HandshakeDoneNs: at, ProvenNs: at, Path: 77}
			}
			a.report(o, r())
			b.report(o, r())
		}
		if n := testutil.ToFloat64(l.g.metrics.implausible); n != 40 {
			t.Errorf("%v implausible instants, want 40", n)
		}
		// 15 NAT pairs each, and no sample in any of them.
		for _, name := range []string{"bradawl_punch_duration_seconds", "bradawl_punch_proven_duration_seconds", "bradawl_init_skew_seconds"} {
			if n := l.samples(name); n != 0 {
				t.Errorf("%s has %d samples", name, n)
			}
		}
	})
}

// samples sums the counts of a histogram's series.
func (l *groupLab) samples(name string) (n uint64) {
	l.t.Helper()
	families, err := l.registry.Gather()
	if err != nil {
		l.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				n += m.GetHistogram().GetSampleCount()
			}
		}
	}
	return n
}

func TestPlausibleReportsEnterTheHistograms(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", ""), l.enter("b", "")
		a.connect(1, "b", 0)
		o := a.order()
		began := l.g.clock.now()
		time.Sleep(100 * time.Millisecond)
		a.report(o, &pb.Report{FirstInitOutNs: began + 1e6, HandshakeDoneNs: began + 4e6, ProvenNs: began + 6e6, Path: pb.Candidate_SERVER_REFLEXIVE})
		b.report(o, &pb.Report{FirstInitOutNs: began + 3e6})
		for _, name := range []string{"bradawl_punch_duration_seconds", "bradawl_punch_proven_duration_seconds", "bradawl_init_skew_seconds"} {
			if n := l.samples(name); n != 1 {
				t.Errorf("%s has %d samples", name, n)
			}
		}
		if n := testutil.ToFloat64(l.g.metrics.paths.WithLabelValues("server_reflexive")); n != 1 {
			t.Errorf("%v paths", n)
		}
	})
}
