package client

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/bradawl/bradawl/protocol/pb"
)

func at6(last uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: byte(last >> 8), 15: byte(last)}), 4000)
}

// dual is an order with an address in each family.
func dual() []candidate {
	return []candidate{{at6(1), pb.Candidate_SERVER_REFLEXIVE}, srflx(1)}
}

func TestOfTwoFamiliesIPv6IsDialledAtOnce(t *testing.T) {
	for name, cs := range map[string][]candidate{
		"in order":         dual(),
		"IPv4 named first": {srflx(1), {at6(1), pb.Candidate_SERVER_REFLEXIVE}},
	} {
		s := newScript(t, true, 3*ms, 500*ms, cs...)
		s.until(4 * ms)
		if !slices.Equal(s.dials, []time.Duration{3 * ms}) || s.to[0] != at6(1) {
			t.Errorf("%s: dials to %v at %v, want IPv6 at the fire time", name, s.to, s.dials)
		}
		if len(s.inits) != 2 {
			t.Errorf("%s: %d INITs, want one in each family", name, len(s.inits))
		}
	}
}

func TestSwallowedIPv6CostsAGraceOnly(t *testing.T) {
	s := newScript(t, true, 0, 500*ms, dual()...)
	s.until(10 * ms)
	s.answered(1) // IPv4's: a round trip of 10 ms
	s.until(400 * ms)
	if want := 10*ms + firstGrace + 5*ms; len(s.dials) < 2 || s.dials[1] != want || s.to[1] != at(1) {
		t.Errorf("dials to %v at %v, want IPv4 at %v", s.to, s.dials, want)
	}
}

func TestIPv6ThatWorksIsNotDoubledByIPv4(t *testing.T) {
	s := newScript(t, true, 0, 500*ms, dual()...)
	s.until(10 * ms)
	s.answered(1)
	s.until(12 * ms)
	s.answered(0) // IPv6 is open: the handshake is about to complete
	s.until(30 * ms)
	if len(s.dials) != 1 {
		t.Errorf("dials to %v at %v, want IPv6's only", s.to, s.dials)
	}
}

// The first flight may meet a firewall that is not open yet. That says nothing against the path.
func TestIPv6WhoseFirstFlightCameTooEarlyIsDialledAgain(t *testing.T) {
	s := newScript(t, true, 0, 500*ms, dual()...)
	s.until(6 * ms) // the second INITs went out at 5 ms
	s.until(15 * ms)
	i4 := slices.IndexFunc(s.inits, func(i outInit) bool { return i.to == at(1) && s.sentAt(i) == 5*ms })
	i6 := slices.IndexFunc(s.inits, func(i outInit) bool { return i.to == at6(1) && s.sentAt(i) == 5*ms })
	s.answered(i4)
	s.answered(i6)
	s.until(40 * ms)
	if !slices.Equal(s.to, []netip.AddrPort{at6(1), at6(1)}) || s.dials[1] != 15*ms {
		t.Errorf("dials to %v at %v, want IPv6 again as it answers", s.to, s.dials)
	}
}

func (s *script) sentAt(i outInit) time.Duration { return s.sent[slices.Index(s.inits, i)] }

// An IPv6 path may carry small packets and lose large ones.
func TestIPv6WhoseHandshakeIsLostGivesWayToIPv4(t *testing.T) {
	s := newScript(t, true, 0, 500*ms, dual()...)
	s.until(10 * ms)
	s.answered(0)
	s.answered(1)
	s.until(100 * ms)
	if want := 3*10*ms + 25*ms; len(s.dials) < 2 || s.dials[1] != want || s.to[1] != at(1) {
		t.Errorf("dials to %v at %v, want IPv4 at %v", s.to, s.dials, want)
	}
}

func TestIPv6ThatCannotBeSentToIsNotWaitedFor(t *testing.T) {
	s := newScript(t, true, 0, 500*ms, dual()...)
	s.until(1 * ms)
	s.p.dialFailed(s.time(), at6(1))
	s.until(10 * ms)
	s.answered(1)
	if !slices.Equal(s.dials, []time.Duration{0, 10 * ms}) || s.to[1] != at(1) {
		t.Errorf("dials to %v at %v, want IPv4 as it answers", s.to, s.dials)
	}
}

// A private address may be a stranger's, in another network of the same numbers.
func TestNothingIsDialledUnheardWhereAnAddressIsPrivate(t *testing.T) {
	for _, a := range []string{"10.1.2.3:4000", "100.64.0.9:4000", "[fd00::1]:4000"} {
		s := newScript(t, true, 0, 500*ms, append(dual(), candidate{netip.MustParseAddrPort(a), pb.Candidate_HOST})...)
		s.until(400 * ms)
		if len(s.dials) > 0 {
			t.Errorf("with %s: dials to %v", a, s.to)
		}
	}
}
