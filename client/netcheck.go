package client

import (
	"context"
	"net/netip"
	"time"

	"github.com/bradawl/bradawl/protocol"
)

// NetReport says how the network in front of this peer treats UDP. What stands in Untested is not known.
type NetReport struct {
	// Observed is our address as the server sees it on the control connection.
	Observed netip.AddrPort
	// MainMapped, AlternateMapped and OtherMapped are our addresses as the server's STUN sockets saw them: the main
	// one, that on another port and that on another address. Invalid: there is none, or no answer.
	MainMapped, AlternateMapped, OtherMapped netip.AddrPort
	// SecondAddress tells whether the server's socket on another address answered. Without it see the limits of
	// [MappingEndpointIndependent] and [FilteringAddressDependent].
	SecondAddress bool
	// IPv4 and IPv6 are what our address is in each family as the server sees it. Invalid: NoIPv4 or NoIPv6 says why.
	IPv4, IPv6     netip.AddrPort
	NoIPv4, NoIPv6 string
	// Hosts are the own addresses that are offered to peers behind the same NAT.
	Hosts []netip.AddrPort
	// Mapping and Filtering are the NAT's behaviour.
	Mapping   Mapping
	Filtering Filtering
	// PortPreserved tells whether the NAT keeps the source port.
	PortPreserved bool
	// Hairpinning tells whether two peers behind the NAT reach each other by its public address.
	Hairpinning Verdict
	// Lifetime is how long an idle mapping lasts. The zero value: not found out.
	Lifetime Lifetime
	// PathMTU is the largest IP packet, in bytes and to within 4, that reaches the server; 1500 is the largest that is
	// tried. 0: not found out.
	PathMTU int
	// ControlRTT is a fresh round trip to the server.
	ControlRTT time.Duration
	// UDPBlocked is set by [BlockedReport] only: a client that is signed in has UDP.
	UDPBlocked bool
	// Untested lists what is not known, and why.
	Untested []Untested
}

// BlockedReport returns what a failed sign-in tells about the network, and
// whether it tells anything: that UDP is blocked.
func BlockedReport(err error) (NetReport, bool) {
	blocked := ReasonOf(err) == protocol.ReasonUDPBlocked
	r := NetReport{Mapping: MappingUnknown, Filtering: FilteringUnknown, Hairpinning: VerdictUnknown, UDPBlocked: blocked}
	for _, t := range Tests() {
		r.Untested = append(r.Untested, Untested{t, "UDP is blocked"})
	}
	return r, blocked
}

// Netcheck is [Client.Discover] with everything that takes a few seconds.
func (c *Client) Netcheck(ctx context.Context) (NetReport, error) {
	return c.Discover(ctx, DiscoverOptions{})
}
