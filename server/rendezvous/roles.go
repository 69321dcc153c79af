package rendezvous

import (
	"net/netip"
	"slices"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

// mappingLabel is the word of a mapping behaviour in logs and metrics.
func mappingLabel(b pb.MappingBehavior) string {
	switch b {
	case pb.MappingBehavior_MAPPING_NONE:
		return "none"
	case pb.MappingBehavior_MAPPING_ENDPOINT_INDEPENDENT:
		return "endpoint_independent"
	case pb.MappingBehavior_MAPPING_ADDRESS_DEPENDENT:
		return "address_dependent"
	case pb.MappingBehavior_MAPPING_ADDRESS_AND_PORT_DEPENDENT:
		return "address_and_port_dependent"
	}
	return "unknown"
}

// mappingLabels lists the words of mappingLabel in alphabetical order.
func mappingLabels() []string {
	return []string{"address_and_port_dependent", "address_dependent", "endpoint_independent", "none", "unknown"}
}

// natPair is the label of two mapping behaviours, whichever side has which.
func natPair(a, b pb.MappingBehavior) string {
	la, lb := mappingLabel(a), mappingLabel(b)
	if la > lb {
		la, lb = lb, la
	}
	return la + "/" + lb
}

// hardness orders mapping behaviours by how hard it is to be reached behind them.
func hardness(b pb.MappingBehavior) int {
	switch b {
	case pb.MappingBehavior_MAPPING_NONE:
		return 0
	case pb.MappingBehavior_MAPPING_ENDPOINT_INDEPENDENT:
		return 1
	case pb.MappingBehavior_MAPPING_ADDRESS_DEPENDENT:
		return 3
	case pb.MappingBehavior_MAPPING_ADDRESS_AND_PORT_DEPENDENT:
		return 4
	}
	return 2
}

// open tells whether a peer's observed address takes packets from anybody.
func open(m *member) bool {
	return m.filtering == pb.FilteringBehavior_FILTERING_ENDPOINT_INDEPENDENT || m.filtering == pb.FilteringBehavior_FILTERING_NONE
}

// candidates lists where of may be reached by to: its observed address in each
// family that both have, IPv6 first (RFC 8421), and in the same network its
// host candidates too.
func candidates(of, to *member) (out []*pb.Candidate) {
	for _, v4 := range []bool{false, true} {
		if !share(of, to, v4) {
			continue
		}
		a := of.addr(v4)
		kind := pb.Candidate_SERVER_REFLEXIVE
		if a == of.observed && of.mapping == pb.MappingBehavior_MAPPING_NONE || a != of.observed && slices.Contains(of.hosts, a) {
			kind = pb.Candidate_HOST
		}
		out = append(out, &pb.Candidate{Type: kind, Address: protocol.AddrToPB(a)})
	}
	if !sameNetwork(of, to) {
		return out
	}
	for _, h := range of.hosts {
		if h != of.observed && h != of.second && len(out) < protocol.MaxCandidates {
			out = append(out, &pb.Candidate{Type: pb.Candidate_HOST, Address: protocol.AddrToPB(h)})
		}
	}
	return out
}

// vetHosts keeps of the host candidates that a peer claims those that other
// peers may be sent to: private addresses, and ports of its observed addresses.
// Anything else could be a stranger at whom it wants packets aimed.
func vetHosts(claimed []*pb.Address, observed ...netip.AddrPort) []netip.AddrPort {
	cgnat := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, 0}), 10) // RFC 6598
	var out []netip.AddrPort
	for _, c := range claimed {
		a, err := protocol.AddrFromPB(c)
		if err != nil {
			continue
		}
		if ip := a.Addr(); !ip.IsPrivate() && !cgnat.Contains(ip) &&
			!slices.ContainsFunc(observed, func(o netip.AddrPort) bool { return o.Addr() == ip }) {
			continue
		}
		if out = append(out, a); len(out) == protocol.MaxHostCandidates {
			break
		}
	}
	return out
}
