package client

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/bradawl/bradawl/protocol"
)

// NetReport says how the network in front of this peer treats UDP, as far as
// one server with two ports on one address can tell. How a NAT filters cannot
// be found out that way: that would need packets from a second address.
type NetReport struct {
	// Observed is our address as the server sees it on the control connection.
	Observed netip.AddrPort
	// MainMapped and AlternateMapped are our addresses as the server's two STUN
	// ports saw them; invalid without an answer.
	MainMapped, AlternateMapped netip.AddrPort
	// Hosts are the own addresses that are offered to peers behind the same NAT.
	Hosts []netip.AddrPort
	// Mapping is the conclusion; see [MappingEndpointIndependent] for its limits.
	Mapping Mapping
	// PortPreserved tells whether the NAT keeps the source port.
	PortPreserved bool
	// ControlRTT is a fresh round trip to the server.
	ControlRTT time.Duration
	// UDPBlocked is set by [BlockedReport] only: a client that is signed in has UDP.
	UDPBlocked bool
}

// BlockedReport returns what a failed sign-in tells about the network, and
// whether it tells anything: that UDP is blocked.
func BlockedReport(err error) (NetReport, bool) {
	blocked := ReasonOf(err) == protocol.ReasonUDPBlocked
	return NetReport{Mapping: MappingUnknown, UDPBlocked: blocked}, blocked
}

// Netcheck looks at the network afresh. It takes a few round trips, or 1.5 s if
// one of the server's ports does not answer.
func (c *Client) Netcheck(ctx context.Context) (NetReport, error) {
	rtt, err := c.Ping(ctx)
	if err != nil {
		return NetReport{}, err
	}
	c.mu.Lock()
	ctl, observed := c.control, c.observed
	c.mu.Unlock()
	if ctl == nil {
		return NetReport{}, &Error{Op: "look at the network", Reason: protocol.ReasonServerUnreachable, Detail: "signed out"}
	}
	r := c.lookAtNAT(ctx, ctl)
	if ctx.Err() != nil {
		return NetReport{}, canceled(ctx, "look at the network", "")
	}
	return NetReport{
		Observed: observed, MainMapped: r.mapped[0], AlternateMapped: r.mapped[1], Hosts: c.hosts,
		Mapping: r.mapping, PortPreserved: r.kept, ControlRTT: rtt,
	}, nil
}

// Explain returns the report in plain words, one statement per line.
func (r NetReport) Explain() []string {
	if r.UDPBlocked {
		return []string{
			"UDP is blocked: TCP reaches the server, UDP does not.",
			"No direct connections are possible from here; allow outgoing UDP.",
		}
	}
	lines := []string{fmt.Sprintf("The server sees this peer at %s; a round trip takes %v.", r.Observed, r.ControlRTT.Round(10*time.Microsecond))}
	switch r.Mapping {
	case MappingNone:
		lines = append(lines, "There is no NAT: that address is this host's own. A firewall may still drop what comes in unasked.")
	case MappingEndpointIndependent:
		lines = append(lines,
			"The NAT's mapping is endpoint-independent (RFC 4787) as far as two ports on one address can tell; it could still differ for other addresses.",
			"Peers can be reached at the observed address: direct connections work with every NAT but those that map each destination anew.")
	case MappingAddressAndPortDependent:
		lines = append(lines,
			fmt.Sprintf("The NAT's mapping is address-and-port-dependent (RFC 4787; \"symmetric\"): the server's two ports saw %s and %s.", r.MainMapped, r.AlternateMapped),
			"Direct connections work only with peers that anybody can reach (no NAT, or one with endpoint-independent filtering).")
	default:
		lines = append(lines, "The NAT's mapping is unknown: only one of the server's ports answered, or none.")
	}
	if r.Mapping != MappingNone && (r.MainMapped.IsValid() || r.AlternateMapped.IsValid()) {
		if r.PortPreserved {
			lines = append(lines, "The NAT keeps the source port.")
		} else {
			lines = append(lines, "The NAT does not keep the source port.")
		}
	}
	return append(lines, "How the NAT filters what comes in cannot be told with one server address.")
}
