package client

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/bradawl/bradawl/protocol"
)

// Finding is one line of a report as a table.
type Finding struct{ What, Result string }

// Findings returns the report as a table for people, in RFC 4787's words.
func (r NetReport) Findings() []Finding {
	if r.UDPBlocked {
		return []Finding{{"UDP", "blocked"}}
	}
	port := "not preserved"
	if r.PortPreserved {
		port = "preserved"
	}
	out := []Finding{
		{"UDP", "passes"},
		{"IPv4 address seen by the server", familyWord(r.IPv4, r.NoIPv4)},
		{"IPv6 address seen by the server", familyWord(r.IPv6, r.NoIPv6)},
		{"round trip to the server", r.ControlRTT.Round(10 * time.Microsecond).String()},
		{"mapping", string(r.Mapping)},
		{"filtering", r.filteringWord()},
		{"source port", port},
		{"hairpinning", string(r.Hairpinning)},
		{"path MTU", r.mtuWord()},
		{"lifetime of an idle mapping", r.Lifetime.String()},
	}
	for _, h := range r.Hosts {
		out = append(out, Finding{"own address", h.String()})
	}
	return out
}

func familyWord(a netip.AddrPort, why string) string {
	if !a.IsValid() {
		return "none (" + why + ")"
	}
	return a.String()
}

func (r NetReport) filteringWord() string {
	if r.Filtering == FilteringAddressDependent && !r.SecondAddress {
		return "address-dependent or endpoint-independent"
	}
	return string(r.Filtering)
}

func (r NetReport) mtuWord() string {
	switch {
	case r.PathMTU == 0:
		return "unknown"
	case r.PathMTU >= maxPathMTU:
		return fmt.Sprintf("at least %d bytes", r.PathMTU)
	}
	return fmt.Sprintf("%d bytes", r.PathMTU)
}

// String is for people: "at least 3s, less than 4s".
func (l Lifetime) String() string {
	round := func(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }
	switch {
	case l == Lifetime{}:
		return "unknown"
	case l.Below == 0:
		return fmt.Sprintf("at least %v", round(l.AtLeast))
	case l.AtLeast == 0:
		return fmt.Sprintf("less than %v", round(l.Below))
	}
	return fmt.Sprintf("at least %v, less than %v", round(l.AtLeast), round(l.Below))
}

// Explain says in plain words what the report means for connecting to others, one statement per line, and at the end
// what was not tested and why.
func (r NetReport) Explain() []string {
	if r.UDPBlocked {
		return []string{
			"UDP is blocked: TCP reaches the server, UDP does not.",
			"No direct connections are possible from here; allow outgoing UDP.",
		}
	}
	lines := []string{fmt.Sprintf("The server sees this peer at %s; a round trip takes %v.", r.Observed, r.ControlRTT.Round(10*time.Microsecond))}
	lines = append(lines, r.explainFamilies()...)
	lines = append(lines, r.explainMapping()...)
	lines = append(lines, r.explainFiltering()...)
	if r.Mapping != MappingNone && (r.MainMapped.IsValid() || r.AlternateMapped.IsValid()) {
		if r.PortPreserved {
			lines = append(lines, "The NAT keeps the source port.")
		} else {
			lines = append(lines, "The NAT does not keep the source port.")
		}
	}
	switch r.Hairpinning {
	case VerdictYes:
		lines = append(lines, "The NAT hairpins: peers behind it also reach each other by its public address.")
	case VerdictNo:
		lines = append(lines, "The NAT does not hairpin: peers behind it reach each other by their own addresses only.")
	}
	if r.PathMTU > 0 {
		lines = append(lines, "Path MTU to the server: "+r.mtuWord()+".")
		if least := r.minQUICPacket(); r.PathMTU < least {
			lines = append(lines, fmt.Sprintf("QUIC needs packets of %d bytes: connections over this path fail.", least))
		}
	}
	if (r.Lifetime != Lifetime{}) {
		lines = append(lines, "An idle mapping lasts "+r.Lifetime.String()+": keep-alives must come more often.")
	}
	for _, u := range r.Untested {
		lines = append(lines, fmt.Sprintf("Not known: %s (%s).", u.Test, u.Why))
	}
	return lines
}

// minQUICPacket is what quic-go's first packets take, with the headers of IP and UDP; RFC 9000 section 14.1 asks for 1200
// bytes without them.
func (r NetReport) minQUICPacket() int {
	if r.Observed.Addr().Is4() {
		return 1280 + 28
	}
	return protocol.MinPathPacket + 48
}

// explainFamilies says with whom the families let this peer connect.
func (r NetReport) explainFamilies() []string {
	switch {
	case r.IPv4.IsValid() && r.IPv6.IsValid():
		return []string{fmt.Sprintf("This peer has IPv4 and IPv6, at %s and %s: to peers that have it too it connects by IPv6, whatever the NATs.", r.IPv4, r.IPv6)}
	case r.IPv6.IsValid():
		return []string{"This peer has only IPv6 (IPv4: " + r.NoIPv4 + "): peers that have only IPv4 cannot be reached."}
	case r.IPv4.IsValid():
		return []string{"This peer has only IPv4 (IPv6: " + r.NoIPv6 + "): peers that have only IPv6 cannot be reached."}
	}
	return nil
}

func (r NetReport) explainMapping() []string {
	switch r.Mapping {
	case MappingNone:
		return []string{"There is no NAT: that address is this host's own. A firewall may still drop what comes in unasked."}
	case MappingEndpointIndependent:
		first := "The NAT's mapping is endpoint-independent (RFC 4787)."
		if !r.SecondAddress {
			first = "The NAT's mapping is endpoint-independent (RFC 4787) as far as two ports on one address can tell; it could still differ for other addresses."
		}
		return []string{first,
			"Peers can be reached at the observed address: direct connections work with every NAT; where the other one maps each destination anew and this one keeps strangers out, ports are guessed, which takes about a second."}
	case MappingAddressDependent:
		return []string{
			fmt.Sprintf("The NAT's mapping is address-dependent (RFC 4787): one address of the server saw %s, the other %s.", r.MainMapped, r.OtherMapped),
			r.hardMapping()}
	case MappingAddressAndPortDependent:
		return []string{
			fmt.Sprintf("The NAT's mapping is address-and-port-dependent (RFC 4787; \"symmetric\"): the server's two ports saw %s and %s.", r.MainMapped, r.AlternateMapped),
			r.hardMapping()}
	}
	return []string{"The NAT's mapping is unknown: only one of the server's ports answered, or none."}
}

// hardMapping says what a mapping means that differs by destination.
func (r NetReport) hardMapping() string {
	if r.Filtering == FilteringEndpointIndependent {
		return "Direct connections still work: others reach the observed address, as the NAT lets in packets from anybody."
	}
	return "Direct connections work with peers whose address is the same for all: at once if strangers' packets come in there, else by many sockets and guessed ports, which takes about a second. They fail with peers behind another NAT of this kind."
}

func (r NetReport) explainFiltering() []string {
	switch r.Filtering {
	case FilteringNone:
		return []string{"Packets from anybody come in: every peer that may send UDP can connect to this one."}
	case FilteringEndpointIndependent:
		return []string{"The NAT's filtering is endpoint-independent (\"full cone\"): every peer that may send UDP can connect to this one."}
	case FilteringAddressDependent:
		if !r.SecondAddress {
			return []string{"The NAT lets in packets from other ports of an address that was sent to (address-dependent filtering), perhaps from anybody: the server has no second address to try."}
		}
		return []string{"The NAT's filtering is address-dependent (\"restricted cone\"): peers behind a symmetric NAT can connect to this one."}
	case FilteringAddressAndPortDependent:
		return []string{"The filtering is address-and-port-dependent (\"port-restricted\"): packets come in only from where some were sent to; both sides must send at nearly the same time, which bradawl does."}
	}
	return nil
}
