package natlab

import (
	"fmt"
	"time"
)

// Mapping says when a NAT reuses a UDP mapping (RFC 4787, section 4.1).
type Mapping uint8

const (
	// EndpointIndependentMapping gives an internal address and port one external
	// port, whatever the destination.
	EndpointIndependentMapping Mapping = iota
	// AddressDependentMapping gives it one external port per destination address.
	AddressDependentMapping
	// AddressAndPortDependentMapping gives it one per destination address and port
	// (a "symmetric" NAT). The port is chosen at random unless [SequentialPorts] are asked for.
	AddressAndPortDependentMapping
)

// String returns RFC 4787's name in lower case.
func (m Mapping) String() string {
	return dependence(uint8(m), "mapping")
}

// Filtering says which inbound UDP packets a mapping lets in (RFC 4787, section 5).
type Filtering uint8

const (
	// AddressAndPortDependentFiltering lets in only packets from addresses and ports
	// that the internal endpoint has sent to. It is what Linux does by itself.
	AddressAndPortDependentFiltering Filtering = iota
	// AddressDependentFiltering lets in packets from any port of an address that
	// the internal endpoint has sent to.
	AddressDependentFiltering
	// EndpointIndependentFiltering lets in packets from anybody while the mapping lasts.
	EndpointIndependentFiltering
)

// String returns RFC 4787's name in lower case.
func (f Filtering) String() string {
	switch f {
	case EndpointIndependentFiltering:
		return dependence(0, "filtering")
	case AddressAndPortDependentFiltering:
		return dependence(2, "filtering")
	}
	return dependence(uint8(f), "filtering")
}

func dependence(n uint8, what string) string {
	switch n {
	case 0:
		return "endpoint-independent " + what
	case 1:
		return "address-dependent " + what
	case 2:
		return "address and port-dependent " + what
	}
	return fmt.Sprintf("unknown %s (%d)", what, n)
}

// PortAssignment says how a NAT chooses the external port (RFC 4787, section 4.2.1).
type PortAssignment uint8

const (
	// PortPreservation keeps the internal port where it is free.
	PortPreservation PortAssignment = iota
	// RandomPorts draws each port at random from 1024 to 65535.
	RandomPorts
	// SequentialPorts gives each new mapping the port after the last one's, from 20000 to 59999 and round again. Only for
	// AddressAndPortDependentMapping.
	SequentialPorts
)

// String returns a short name.
func (p PortAssignment) String() string {
	switch p {
	case PortPreservation:
		return "port preservation"
	case RandomPorts:
		return "random ports"
	case SequentialPorts:
		return "sequential ports"
	}
	return fmt.Sprintf("unknown port assignment (%d)", uint8(p))
}

// NAT describes a site's NAT. The zero value is what a Linux router with one
// masquerade rule and no filter does; the same as [PortRestrictedNoDrop].
type NAT struct {
	Mapping   Mapping
	Filtering Filtering
	Ports     PortAssignment

	// DropUnsolicited drops inbound packets that no mapping lets in, before
	// they leave a trace. Without it such a packet reaches the router itself, which
	// answers with ICMP port unreachable and remembers the flow: a mapping that later
	// wants the same external port towards the same remote endpoint gets another
	// port, and is no longer where its peer looks for it.
	DropUnsolicited bool

	// Hairpinning lets two UDP endpoints behind the NAT reach each other through its
	// public address, with the external source address and port (RFC 4787, section 6).
	// Filtering applies as it does from outside.
	Hairpinning bool

	// MappingTimeout is how long an idle UDP mapping lasts. It is rounded up to
	// whole seconds. Zero leaves the kernel's values: 30 s for a flow that
	// has not been answered, 120 s after that.
	MappingTimeout time.Duration

	// UDPBlocked drops all UDP between the site and the outside. TCP still passes.
	UDPBlocked bool
}

// String describes the NAT in one line.
func (n NAT) String() string {
	if n.UDPBlocked {
		return "UDP blocked"
	}
	s := n.Mapping.String() + ", " + n.Filtering.String()
	if n.randomPorts() {
		s += ", " + RandomPorts.String()
	} else {
		s += ", " + n.Ports.String()
	}
	if n.Hairpinning {
		s += ", hairpinning"
	}
	if !n.DropUnsolicited {
		s += ", unsolicited packets not dropped"
	}
	return s
}

// FullCone maps and filters independently of the endpoint.
func FullCone() NAT {
	return NAT{Filtering: EndpointIndependentFiltering, DropUnsolicited: true}
}

// AddressRestricted lets in packets from addresses that were sent to.
func AddressRestricted() NAT {
	return NAT{Filtering: AddressDependentFiltering, DropUnsolicited: true}
}

// PortRestricted is a Linux masquerade that drops unsolicited packets.
func PortRestricted() NAT {
	return NAT{DropUnsolicited: true}
}

// PortRestrictedNoDrop is a Linux masquerade without a filter: an early inbound
// packet takes the port. See [NAT.DropUnsolicited].
func PortRestrictedNoDrop() NAT {
	return NAT{}
}

// Symmetric gives each destination another, random port.
func Symmetric() NAT {
	return NAT{Mapping: AddressAndPortDependentMapping, Ports: RandomPorts, DropUnsolicited: true}
}

// SequentialSymmetric gives each destination another port, one after the other.
func SequentialSymmetric() NAT {
	return NAT{Mapping: AddressAndPortDependentMapping, Ports: SequentialPorts, DropUnsolicited: true}
}

// UDPBlocked lets no UDP through.
func UDPBlocked() NAT {
	return NAT{DropUnsolicited: true, UDPBlocked: true}
}

func (n NAT) randomPorts() bool {
	return n.Ports == RandomPorts || n.Mapping == AddressAndPortDependentMapping && n.Ports != SequentialPorts
}

// tracksPorts says whether the router must remember who owns which external
// port. Plain conntrack is enough otherwise.
func (n NAT) tracksPorts() bool {
	return !n.UDPBlocked && (n.Filtering != AddressAndPortDependentFiltering || n.Hairpinning || n.reusesPorts())
}

// reusesPorts says whether the router must look up an endpoint's earlier port:
// the kernel does so by itself only while it preserves ports.
func (n NAT) reusesPorts() bool {
	return n.Mapping == AddressDependentMapping ||
		n.Mapping == EndpointIndependentMapping && (n.randomPorts() || n.Hairpinning || n.Filtering != AddressAndPortDependentFiltering)
}

func (n NAT) validate() error {
	switch {
	case n.Mapping > AddressAndPortDependentMapping:
		return fmt.Errorf("natlab: %s", n.Mapping)
	case n.Filtering > EndpointIndependentFiltering:
		return fmt.Errorf("natlab: %s", n.Filtering)
	case n.Ports > SequentialPorts:
		return fmt.Errorf("natlab: %s", n.Ports)
	case n.MappingTimeout < 0:
		return fmt.Errorf("natlab: negative mapping timeout %s", n.MappingTimeout)
	case n.Ports == SequentialPorts && n.Mapping != AddressAndPortDependentMapping:
		return fmt.Errorf("natlab: %s need %s", SequentialPorts, AddressAndPortDependentMapping)
	case n.Mapping == AddressDependentMapping && !n.randomPorts():
		return fmt.Errorf("natlab: %s needs %s", n.Mapping, RandomPorts)
	}
	return nil
}
