package daemon

import (
	"net"
	"net/netip"
)

// publicAddrs are the addresses that peers learn, one of each family at most: what the settings say; else that of
// --public-addr, that listened on or one of the machine's own, if the socket serves its family and the whole Internet could
// reach it.
func publicAddrs(s settings, listening net.Addr, own []netip.Addr) (out []netip.AddrPort) {
	bound, err := netip.ParseAddrPort(listening.String())
	if err != nil {
		return nil
	}
	at := bound.Addr().Unmap()
	candidates := []netip.AddrPort{}
	if a, err := netip.ParseAddrPort(s.PublicAddr); err == nil { // else a name: clients look it up themselves
		candidates = append(candidates, a)
	}
	if at.IsUnspecified() {
		for _, ip := range own {
			candidates = append(candidates, netip.AddrPortFrom(ip, bound.Port()))
		}
	} else {
		candidates = append(candidates, netip.AddrPortFrom(at, bound.Port()))
	}
	for _, f := range []struct {
		setting string
		v4      bool
	}{{s.PublicIPv4, true}, {s.PublicIPv6, false}} {
		serves := f.v4 == at.Is4() || f.v4 && at.IsUnspecified() // the unspecified IPv6 address takes both
		switch {
		case f.setting == off:
		case f.setting != "":
			a, _ := netip.ParseAddrPort(f.setting) // checked
			out = append(out, a)
		case serves:
			for _, a := range candidates {
				if ip := a.Addr().Unmap(); ip.Is4() == f.v4 && ip.IsGlobalUnicast() && !ip.IsPrivate() {
					out = append(out, netip.AddrPortFrom(ip, a.Port()))
					break
				}
			}
		}
	}
	return out
}

// ownAddresses are those from which this machine sends to the Internet, one of each family at most.
func ownAddresses() (out []netip.Addr) {
	// Connecting a UDP socket sends nothing; it only looks up the route. The addresses are nobody's (RFC 5737, 3849).
	for network, to := range map[string]string{"udp4": "192.0.2.1:9", "udp6": "[2001:db8::1]:9"} {
		c, err := net.Dial(network, to)
		if err != nil {
			continue
		}
		if a, err := netip.ParseAddrPort(c.LocalAddr().String()); err == nil {
			out = append(out, a.Addr())
		}
		_ = c.Close()
	}
	return out
}
