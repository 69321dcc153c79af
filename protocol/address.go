package protocol

import (
	"fmt"
	"net/netip"

	"github.com/bradawl/bradawl/protocol/pb"
)

// AddrToPB translates an address; an IPv4 address in IPv6 form becomes IPv4. It returns nil for an invalid one.
func AddrToPB(a netip.AddrPort) *pb.Address {
	if !a.IsValid() {
		return nil
	}
	return &pb.Address{Ip: a.Addr().Unmap().AsSlice(), Port: uint32(a.Port())}
}

// AddrFromPB translates an address from the wire. It refuses a missing one, one that is not 4 or 16 bytes
// long and port 0.
func AddrFromPB(a *pb.Address) (netip.AddrPort, error) {
	ip, ok := netip.AddrFromSlice(a.GetIp())
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("address of %d bytes, must be 4 or 16", len(a.GetIp()))
	}
	if a.GetPort() == 0 || a.GetPort() > 65535 {
		return netip.AddrPort{}, fmt.Errorf("port %d, must be 1 to 65535", a.GetPort())
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(a.GetPort())), nil
}
