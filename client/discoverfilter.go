package client

import (
	"context"
	"time"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

// Filtering is which packets a NAT lets in to a mapping, in the words of RFC 4787 section 5.
type Filtering string

// The filtering behaviours. Without a server with a second address, [FilteringAddressDependent] means: at most that; it
// may be endpoint-independent in truth.
const (
	FilteringUnknown Filtering = "unknown"
	// FilteringNone: there is no NAT, and packets from anybody come in.
	FilteringNone                    Filtering = "none"
	FilteringEndpointIndependent     Filtering = "endpoint-independent"
	FilteringAddressDependent        Filtering = "address-dependent"
	FilteringAddressAndPortDependent Filtering = "address-and-port-dependent"
)

func (f Filtering) pb() pb.FilteringBehavior {
	switch f {
	case FilteringNone:
		return pb.FilteringBehavior_FILTERING_NONE
	case FilteringEndpointIndependent:
		return pb.FilteringBehavior_FILTERING_ENDPOINT_INDEPENDENT
	case FilteringAddressDependent:
		return pb.FilteringBehavior_FILTERING_ADDRESS_DEPENDENT
	case FilteringAddressAndPortDependent:
		return pb.FilteringBehavior_FILTERING_ADDRESS_AND_PORT_DEPENDENT
	}
	return pb.FilteringBehavior_FILTERING_UNKNOWN
}

// Verdict is the answer to a question that may not have been settled.
type Verdict string

// The verdicts.
const (
	VerdictUnknown Verdict = "unknown"
	VerdictYes     Verdict = "yes"
	VerdictNo      Verdict = "no"
)

const (
	// probeRounds is how often something is tried before its silence counts: 5 % of loss each way leave one chance in
	// ten thousand.
	probeRounds = 4
	// probeSlack is how much later than others a packet may come.
	probeSlack = 20 * time.Millisecond
)

// findFiltering asks the server's main socket for answers from its other ones, to which this mapping has never sent.
func (d *discovery) findFiltering(ctx context.Context) {
	if !d.main.IsValid() || !d.alternate.IsValid() && !d.other.IsValid() {
		d.untested(TestFiltering, "the server has no second STUN socket that answers")
		return
	}
	s, err := d.c.newProbeSocket()
	if err != nil {
		d.untested(TestFiltering, err.Error())
		return
	}
	defer s.close()
	if mapped, rtt := s.ask(ctx, d.main); !mapped.IsValid() {
		d.untested(TestFiltering, "the server did not answer")
		return
	} else if d.rtt == 0 {
		d.rtt = rtt
	}
	f := filterTest{d: d, asked: make(map[[12]byte]filterKind)}
	for range probeRounds {
		if f.round(ctx, s) {
			break
		}
	}
	switch {
	case f.got[fromOther] && d.nat.mapping == MappingNone:
		d.report.Filtering = FilteringNone
	case f.got[fromOther]:
		d.report.Filtering = FilteringEndpointIndependent
	case f.refused:
		d.untested(TestFiltering, "the server does not send from its other sockets")
	case f.got[fromPort]:
		d.report.Filtering = FilteringAddressDependent
	case !f.got[asUsual]:
		d.untested(TestFiltering, "the server did not answer")
	case d.alternate.IsValid():
		d.report.Filtering = FilteringAddressAndPortDependent
	default:
		d.untested(TestFiltering, "only the server's other address was there to try: strangers are kept out")
	}
}

type filterKind int

const (
	asUsual filterKind = iota
	fromPort
	fromOther
	filterKinds
)

type filterTest struct {
	d       *discovery
	asked   map[[12]byte]filterKind
	got     [filterKinds]bool
	refused bool // the server cannot, or answers from its main socket after all
}

// round tries everything once and tells whether no more rounds are needed. The usual answer, asked for last, bounds the wait.
func (f *filterTest) round(ctx context.Context, s *probeSocket) bool {
	var usual [12]byte
	for _, k := range []filterKind{fromOther, fromPort, asUsual} {
		p := protocol.Probe{ChangeIP: k == fromOther, ChangePort: k != asUsual}
		if k == fromOther && !f.d.other.IsValid() || k == fromPort && !f.d.alternate.IsValid() {
			continue
		}
		tid, err := s.send(p, f.d.main)
		if err != nil {
			continue
		}
		f.asked[tid] = k
		if k == asUsual {
			usual = tid
		}
	}
	answered := s.until(ctx, f.d.patience(300*time.Millisecond), func(h heard) bool {
		f.see(h)
		return h.tid == usual || f.enough()
	})
	if answered && !f.enough() {
		s.until(ctx, max(probeSlack, f.d.rtt), func(h heard) bool {
			f.see(h)
			return f.enough()
		})
	}
	return f.enough() || f.refused || ctx.Err() != nil
}

func (f *filterTest) see(h heard) {
	k, ours := f.asked[h.tid]
	switch {
	case !ours || h.request:
	case h.refused || k != asUsual && h.from == f.d.main:
		f.refused = true
	default:
		f.got[k] = true
	}
}

// enough tells whether more answers would change nothing.
func (f *filterTest) enough() bool {
	return f.got[fromOther] || f.got[fromPort] && !f.d.other.IsValid()
}

// findHairpinning sends between the mapped addresses of two own sockets, both ways, as filtering applies there too.
func (d *discovery) findHairpinning(ctx context.Context) {
	switch {
	case d.nat.mapping == MappingNone:
		d.untested(TestHairpinning, "there is no NAT")
		return
	case !d.main.IsValid():
		d.untested(TestHairpinning, "the server's STUN socket does not answer")
		return
	}
	var socks [2]*probeSocket
	var sent [2]map[[12]byte]bool
	for i := range socks {
		s, err := d.c.newProbeSocket()
		if err != nil {
			d.untested(TestHairpinning, err.Error())
			return
		}
		defer s.close()
		socks[i], sent[i] = s, make(map[[12]byte]bool)
	}
	a, _ := socks[0].ask(ctx, d.main)
	b, _ := socks[1].ask(ctx, d.main)
	if !a.IsValid() || !b.IsValid() {
		d.untested(TestHairpinning, "the server did not answer")
		return
	}
	for range probeRounds {
		if tid, err := socks[0].send(protocol.Probe{}, b); err == nil {
			sent[0][tid] = true
		}
		if tid, err := socks[1].send(protocol.Probe{}, a); err == nil {
			sent[1][tid] = true
		}
		for i, s := range socks {
			// The way to the NAT and back is a part of the way to the server and back.
			if s.until(ctx, max(probeSlack, d.rtt), func(h heard) bool { return h.request && sent[1-i][h.tid] }) {
				d.report.Hairpinning = VerdictYes
				return
			}
		}
		if ctx.Err() != nil {
			return
		}
	}
	d.report.Hairpinning = VerdictNo
}
