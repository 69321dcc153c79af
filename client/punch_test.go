package client

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

const ms = time.Millisecond

func at(last byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, last}), 4000)
}

func srflx(last byte) candidate {
	return candidate{at(last), pb.Candidate_SERVER_REFLEXIVE}
}

// script drives a punch on a clock of its own, which starts at 0.
type script struct {
	t     *testing.T
	p     *punch
	zero  time.Time
	now   time.Duration
	inits []outInit
	sent  []time.Duration
	dials []time.Duration
	to    []netip.AddrPort
}

func newScript(t *testing.T, dialler bool, fire, window time.Duration, cs ...candidate) *script {
	zero := time.Unix(1000, 0)
	s := &script{t: t, zero: zero, p: newPunch(dialler, cs, zero.Add(fire), zero.Add(fire+window))}
	s.act()
	return s
}

func (s *script) time() time.Time { return s.zero.Add(s.now) }

// act does what is due now.
func (s *script) act() {
	for _, i := range s.p.inits(s.time()) {
		s.inits = append(s.inits, i)
		s.sent = append(s.sent, s.now)
	}
	if to, ok := s.p.dial(s.time()); ok {
		s.dials = append(s.dials, s.now)
		s.to = append(s.to, to)
	}
}

// until lets time pass, waking the punch when it asks for it.
func (s *script) until(d time.Duration) {
	for {
		next := s.p.next().Sub(s.zero)
		if next <= s.now {
			next = s.now + minPause // as run does
		}
		if next > d {
			break
		}
		s.now = next
		s.act()
	}
	s.now = d
}

func (s *script) heardInit(from netip.AddrPort, n byte) bool {
	answer, also := s.p.heardInit(s.time(), from, [12]byte{n, 1})
	for _, i := range also {
		s.inits = append(s.inits, i)
		s.sent = append(s.sent, s.now)
	}
	s.act()
	return answer
}

// answered is the answer to the n-th INIT.
func (s *script) answered(n int) {
	s.t.Helper()
	if _, ok := s.p.heardResponse(s.time(), s.inits[n].to, s.inits[n].tid); !ok {
		s.t.Fatalf("the answer to INIT %d was not accepted", n)
	}
	s.act()
}

func TestINITsGoOutQuicklyAtFirstAndThenMoreSlowly(t *testing.T) {
	s := newScript(t, false, 5*ms, 500*ms, srflx(1))
	s.until(600 * ms)
	want := []time.Duration{5 * ms, 10 * ms, 20 * ms, 40 * ms, 80 * ms, 160 * ms, 320 * ms, 480 * ms}
	if !slices.Equal(s.sent, want) {
		t.Errorf("INITs at %v, want %v", s.sent, want)
	}
	if len(s.dials) > 0 {
		t.Errorf("a listener dialled at %v", s.dials)
	}
	if r := s.p.failure(false); r != protocol.ReasonNoInbound {
		t.Errorf("failure is %s, want no_inbound", r)
	}
	if r := s.p.failure(true); r != protocol.ReasonMappingVaries {
		t.Errorf("failure is %s, want mapping_varies", r)
	}
}

func TestAnsweredINITsStop(t *testing.T) {
	s := newScript(t, false, 0, 500*ms, srflx(1), srflx(2))
	s.until(1 * ms)
	s.answered(0)
	s.until(100 * ms)
	for i, o := range s.inits[2:] {
		if o.to == at(1) {
			t.Errorf("an INIT to the address that has answered, at %v", s.sent[i+2])
		}
	}
	if r := s.p.failure(false); r != protocol.ReasonQUICTimeout {
		t.Errorf("failure is %s, want quic_timeout", r)
	}
}

func TestTheOnlyCandidateIsDialledAtOnce(t *testing.T) {
	s := newScript(t, true, 3*ms, 500*ms, srflx(1))
	s.until(4 * ms)
	if !slices.Equal(s.dials, []time.Duration{3 * ms}) {
		t.Errorf("dials at %v, want at the fire time", s.dials)
	}
	s.until(400 * ms)
	if len(s.dials) != 1 {
		t.Errorf("dials at %v though nothing says that the hole is open", s.dials)
	}
}

func TestOfSeveralCandidatesTheFirstOpenOneIsDialled(t *testing.T) {
	s := newScript(t, true, 0, 500*ms, srflx(1), candidate{at(2), pb.Candidate_HOST}, srflx(3))
	s.until(3 * ms)
	if len(s.dials) > 0 {
		t.Fatal("dialled before any candidate was open")
	}
	s.heardInit(at(3), 1)
	s.heardInit(at(2), 2)
	if len(s.to) != 1 || s.to[0] != at(3) {
		t.Errorf("dialled %v, want the first that was heard from, %s", s.to, at(3))
	}
}

func TestADialThatMetAClosedNATIsRepeatedAtOnce(t *testing.T) {
	s := newScript(t, true, 0, 500*ms, srflx(1))
	// The INIT beside the dial and the next one die at the other NAT; the third is answered.
	s.until(16 * ms)
	if len(s.sent) != 3 {
		t.Fatalf("INITs at %v", s.sent)
	}
	s.answered(2)
	if !slices.Equal(s.dials, []time.Duration{0, 16 * ms}) {
		t.Errorf("dials at %v, want another one as the hole proves open", s.dials)
	}
}

func TestALateINITMakesTheDialOverdue(t *testing.T) {
	s := newScript(t, true, 0, 500*ms, srflx(1))
	s.until(10 * ms)
	s.heardInit(at(1), 1) // one way takes at most 10 ms: by 20 ms the handshake must answer
	s.until(40 * ms)
	if len(s.dials) != 2 || s.dials[1] != 30*ms {
		t.Errorf("dials at %v, want 0 and 30ms", s.dials)
	}
}

func TestADialThatIsOnItsWayIsNotRepeated(t *testing.T) {
	s := newScript(t, true, 0, 500*ms, srflx(1))
	s.until(10 * ms)
	s.heardInit(at(1), 1)
	s.until(20 * ms)
	s.answered(0) // the INIT beside the dial passed
	s.until(60 * ms)
	if len(s.dials) != 1 {
		t.Errorf("dials at %v, want one", s.dials)
	}
	s.until(120 * ms) // but it may have been lost all the same
	if len(s.dials) != 2 {
		t.Errorf("dials at %v, want a second one by now", s.dials)
	}
}

func TestARefusedDialIsRepeatedWhenTheOtherSideIsReady(t *testing.T) {
	s := newScript(t, true, 0, 500*ms, srflx(1))
	s.until(1 * ms)
	s.p.dialFailed(s.time(), at(1)) // refused: no order there yet
	s.until(5 * ms)
	s.heardInit(at(1), 1)
	if !slices.Equal(s.dials, []time.Duration{0, 5 * ms}) {
		t.Errorf("dials at %v, want the second as the INIT comes in", s.dials)
	}
}

func TestDialsAreBounded(t *testing.T) {
	s := newScript(t, true, 0, 30*time.Second, srflx(1))
	s.until(1 * ms)
	s.heardInit(at(1), 1)
	s.until(29 * time.Second)
	if len(s.dials) > maxDials {
		t.Errorf("%d dials, at most %d are allowed: %v", len(s.dials), maxDials, s.dials)
	}
}

func TestPeerReflexiveCandidatesAreBounded(t *testing.T) {
	s := newScript(t, false, 0, 10*time.Second, srflx(1))
	for i := range byte(10) {
		took := s.heardInit(at(100+i), i)
		if want := i < protocol.MaxPeerReflexive; took != want {
			t.Errorf("address %d: answered %v, want %v", i, took, want)
		}
	}
	s.until(9 * time.Second)
	count := make(map[netip.AddrPort]int)
	for _, o := range s.inits {
		count[o.to]++
	}
	for a, n := range count {
		if a != at(1) && n > maxReflexiveInits {
			t.Errorf("%d INITs to %s, which never answered; at most %d are allowed", n, a, maxReflexiveInits)
		}
	}
	if len(count) != 1+protocol.MaxPeerReflexive {
		t.Errorf("INITs to %d addresses: %v", len(count), count)
	}
}

func TestReplayedINITsGetNoAnswer(t *testing.T) {
	s := newScript(t, false, 0, 500*ms, srflx(1))
	if !s.heardInit(at(1), 7) {
		t.Fatal("the first one was not answered")
	}
	if s.heardInit(at(1), 7) || s.heardInit(at(9), 7) {
		t.Error("a replay was answered")
	}
	if s.p.expects(at(9)) {
		t.Error("a replay made its source a candidate")
	}
}

func TestAnAnswerFromElsewhereIsNotTaken(t *testing.T) {
	s := newScript(t, true, 0, 500*ms, srflx(1), srflx(2))
	s.until(1 * ms)
	if _, ok := s.p.heardResponse(s.time(), at(2), s.inits[0].tid); ok {
		t.Error("the answer to an INIT came from another address and was taken")
	}
	if _, ok := s.p.heardResponse(s.time(), at(1), [12]byte{1}); ok {
		t.Error("an answer to nothing was taken")
	}
}

func TestAnAddressOfSomebodyElseIsGivenUp(t *testing.T) {
	s := newScript(t, true, 0, 500*ms, srflx(1), srflx(2))
	s.until(1 * ms)
	s.heardInit(at(1), 1)
	if s.p.exclude(at(1)) {
		t.Error("the other candidate is left")
	}
	s.until(3 * ms)
	s.heardInit(at(2), 2)
	if len(s.to) != 2 || s.to[1] != at(2) {
		t.Errorf("dialled %v, want the other candidate at last", s.to)
	}
	if !s.p.exclude(at(2)) {
		t.Error("no candidate is left")
	}
}

func TestNothingGoesOutOnceConnected(t *testing.T) {
	s := newScript(t, true, 0, 500*ms, srflx(1), srflx(2))
	s.p.connected()
	n := len(s.inits)
	s.until(400 * ms)
	s.heardInit(at(1), 1)
	s.until(499 * ms)
	if len(s.inits) != n || len(s.dials) != 0 {
		t.Errorf("%d INITs and %d dials after the handshake", len(s.inits)-n, len(s.dials))
	}
}

func TestSilenceEndsAnAttemptEarly(t *testing.T) {
	s := newScript(t, false, 0, 1500*ms, srflx(1))
	s.p.hush = s.zero.Add(400 * ms)
	s.until(300 * ms)
	if at := s.p.ends().Sub(s.zero); at != 400*ms || s.p.next().Sub(s.zero) > 400*ms {
		t.Errorf("an attempt to which nothing comes in ends after %v", at)
	}
	s.heardInit(at(1), 1)
	if at := s.p.ends().Sub(s.zero); at != 1500*ms {
		t.Errorf("after an INIT it ends after %v", at)
	}
}

func TestTheAnswerToAnotherSocketsINITOpensThePath(t *testing.T) {
	s := newScript(t, true, 0, 1500*ms, srflx(1), srflx(2))
	s.until(30 * ms)
	before := s.p.initsOut
	s.p.alsoSent(s.time(), 256)
	s.p.openedBy(s.time(), at(1), 20*ms)
	s.act()
	if len(s.to) != 1 || s.to[0] != at(1) || s.dials[0] != 30*ms {
		t.Errorf("dialled %v at %v, want %s at once", s.to, s.dials, at(1))
	}
	if n := s.p.initsOut - before; n != 256 {
		t.Errorf("%d INITs counted, want 256", n)
	}
}

func TestSkewIsTheDistanceOfTheFirstINITs(t *testing.T) {
	s := newScript(t, false, 10*ms, 500*ms, srflx(1))
	if _, ok := s.p.skew(4 * ms); ok {
		t.Error("skew known before any INIT came in")
	}
	s.until(15 * ms)
	s.heardInit(at(1), 1)
	if got, ok := s.p.skew(4 * ms); !ok || got != 3*ms { // sent at 13, ours at 10
		t.Errorf("skew %v, want 3ms", got)
	}
}

func TestCandidatesOfAnOrderAreBoundedAndTriedOnce(t *testing.T) {
	var cs []candidate
	for i := range byte(40) {
		cs = append(cs, srflx(i/2))
	}
	s := newScript(t, false, 0, 500*ms, cs...)
	if len(s.inits) != protocol.MaxCandidates {
		t.Errorf("%d INITs at once, want %d", len(s.inits), protocol.MaxCandidates)
	}
}
