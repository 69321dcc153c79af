package natlab

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Register n of 4 bytes. A key of several fields takes registers in a row.
func reg(n uint32) uint32 { return unix.NFT_REG32_00 + n }

// addRemember notes packets from inside to the router's public address.
func (r *ruleset) addRemember() {
	if !r.nat().Hairpinning || r.nat().Filtering == EndpointIndependentFiltering {
		return
	}
	c := r.chain("remember", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityMangle)
	r.rule(c, fromInside(), udp(), toAddress(r.site.public),
		load(sourceAddress(0), sourcePort(1), destinationPort(2)), update(r.sent, 0, 0))
}

// addDNAT translates inbound packets that have no flow yet.
func (r *ruleset) addDNAT() {
	c := r.chain("dnat", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest)
	if r.owners == nil {
		return
	}
	dnat := []expr.Any{&expr.NAT{
		Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, Specified: true,
		RegAddrMin: reg(0), RegAddrMax: reg(0), RegProtoMin: reg(1), RegProtoMax: reg(1),
	}}
	owner := append(load(destinationPort(8)), lookup(r.owners, 8, 0)) // address 0, port 1
	inbound := [][]expr.Any{fromUplink(), udp(), toAddress(r.site.public)}
	switch r.nat().Filtering {
	case EndpointIndependentFiltering:
		r.rule(c, append(inbound, owner, dnat)...)
	case AddressDependentFiltering:
		permitted := append(load(sourceAddress(8), destinationPort(9)), member(r.allowed, 8))
		r.rule(c, append(inbound, permitted, owner, dnat)...)
	}
	if !r.nat().Hairpinning {
		return
	}
	hairpin := [][]expr.Any{fromInside(), udp(), toAddress(r.site.public), owner}
	switch r.nat().Filtering {
	case AddressDependentFiltering:
		hairpin = append(hairpin, []expr.Any{member(r.sent, 0)})
	case AddressAndPortDependentFiltering:
		// The owner must have sent to the external port of this packet's sender.
		sender := append(load(sourceAddress(8), sourcePort(9), destinationAddress(10)), lookup(r.ports, 8, 2))
		hairpin = append(hairpin, sender, []expr.Any{member(r.sent, 0)})
	}
	r.rule(c, append(hairpin, dnat)...)
}

// addSNAT chooses the external port of outbound packets that have no flow yet.
func (r *ruleset) addSNAT() {
	c := r.chain("snat", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource)
	directions := [][]expr.Any{toUplink()}
	if r.nat().Hairpinning && !r.nat().UDPBlocked {
		inside := append(udp(), fromPrefix(r.site.config.Private)...)
		directions = append(directions, append(append(inside, toInside()...), translated(true)...))
	}
	for _, direction := range directions {
		if r.ports != nil && r.nat().reusesPorts() {
			key := load(sourceAddress(0), sourcePort(1), destinationAddress(2))
			r.rule(c, direction, udp(), key, []expr.Any{lookup(r.ports, 0, 4)}, r.snat(4, false))
		}
		if r.owners != nil && r.nat().Ports == PortPreservation && !r.nat().randomPorts() {
			// Another endpoint has this port already.
			r.rule(c, direction, udp(), load(sourcePort(0)), []expr.Any{lookup(r.owners, 0, 1)}, r.snat(noPort, true))
		}
		if r.nat().Ports == SequentialPorts {
			r.rule(c, direction, udp(), following(4), r.snat(4, false))
			continue
		}
		r.rule(c, direction, udp(), r.snat(noPort, r.nat().randomPorts()))
	}
	r.rule(c, toUplink(), r.snat(noPort, false))
}

const noPort = ^uint32(0)

// snat translates to the public address, to the port in a register unless noPort.
func (r *ruleset) snat(port uint32, random bool) []expr.Any {
	nat := &expr.NAT{
		Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, FullyRandom: random,
		RegAddrMin: reg(8), RegAddrMax: reg(8),
	}
	if port != noPort {
		nat.RegProtoMin, nat.RegProtoMax, nat.Specified = reg(port), reg(port), true
	}
	return []expr.Any{&expr.Immediate{Register: reg(8), Data: r.site.public.AsSlice()}, nat}
}

// addRecord notes the external port of every packet that leaves with the public
// address: the packet bears it by now, and its flow still knows the internal endpoint, as the
// flow's own source, or as the source of replies where the flow began outside.
func (r *ruleset) addRecord() {
	c := r.chain("record", nftables.ChainTypeFilter, nftables.ChainHookPostrouting, 200)
	for direction := range uint32(2) { // original, reply
		// The kernel wants the direction in one byte, and reads the first of the four that
		// the library writes, most significant first: hence the shift.
		internal := []expr.Any{
			&expr.Ct{Key: expr.CtKeySRC, Register: reg(1), Direction: direction << 24},
			&expr.Ct{Key: expr.CtKeyPROTOSRC, Register: reg(2), Direction: direction << 24},
		}
		match := [][]expr.Any{udp(), fromAddress(r.site.public), flowDirection(direction)}
		fields := append(load(sourcePort(0)), internal...)
		fields = append(fields, load(destinationAddress(3), sourcePort(4))...)
		parts := append(match, fields, update(r.owners, 0, 1))
		if r.nat().reusesPorts() {
			parts = append(parts, update(r.ports, 1, 0))
		}
		if r.nat().Filtering == AddressDependentFiltering {
			parts = append(parts, update(r.allowed, 3, 0))
		}
		r.rule(c, parts...)
	}
}
