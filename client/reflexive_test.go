package client

import (
	"slices"
	"testing"
	"time"

	"github.com/bradawl/bradawl/protocol/pb"
)

// Whoever sends a captured INIT on, from a forged address, must not have the
// dialler's large packets go there: its owner has to answer an INIT first.
func TestAPeerReflexiveAddressIsDialledOnceItHasAnswered(t *testing.T) {
	s := newScript(t, true, 0, 2*time.Second, srflx(1), srflx(2))
	s.until(3 * ms)
	if !s.heardInit(at(9), 1) {
		t.Fatal("the INIT was not answered")
	}
	s.until(40 * ms)
	s.heardInit(at(9), 2)
	s.until(400 * ms)
	if len(s.dials) > 0 {
		t.Fatalf("dials to %v at %v, which have answered nothing", s.to, s.dials)
	}
	n := slices.IndexFunc(s.inits, func(o outInit) bool { return o.to == at(9) })
	if n < 0 || s.sent[n] != 3*ms {
		t.Fatalf("INITs %v at %v: none to the new address at once", s.inits, s.sent)
	}
	s.answered(n)
	if len(s.to) != 1 || s.to[0] != at(9) {
		t.Fatalf("dials to %v after the answer, want one to %v", s.to, at(9))
	}
}

func TestAPeerReflexiveAddressThatIsAloneIsNotDialledUnanswered(t *testing.T) {
	s := newScript(t, true, 0, 500*ms)
	s.until(1 * ms)
	s.heardInit(at(9), 1)
	s.until(400 * ms)
	if len(s.dials) > 0 {
		t.Errorf("dials to %v at %v", s.to, s.dials)
	}
	if k := s.p.kind(at(9)); k != pb.Candidate_PEER_REFLEXIVE {
		t.Errorf("kind %v", k)
	}
}
