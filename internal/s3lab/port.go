package s3lab

import (
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// reservePort turns a port 0 into a free port and keeps others off it until
// release. The gateway opens its listener by itself and does not tell its
// port. Linux lets two sockets with SO_REUSEADDR, which Go's listeners have,
// be bound to the same port as long as no other of them listens; but it gives
// a port that is bound to nobody who asks for any port.
func reservePort(addr netip.AddrPort) (_ netip.AddrPort, release func(), _ error) {
	fail := func(err error) (netip.AddrPort, func(), error) {
		return netip.AddrPort{}, nil, fmt.Errorf("s3lab: listen on %s: %w", addr, err)
	}
	family := unix.AF_INET6
	var sa unix.Sockaddr
	if addr.Addr().Is4() {
		family = unix.AF_INET
		sa = &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	} else {
		sa6 := &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
		if zone := addr.Addr().Zone(); zone != "" {
			ifi, err := net.InterfaceByName(zone)
			if err != nil {
				return fail(err)
			}
			sa6.ZoneId = uint32(ifi.Index)
		}
		sa = sa6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	release = func() { unix.Close(fd) }
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		release()
		return fail(err)
	}
	if err := unix.Bind(fd, sa); err != nil {
		release()
		return fail(err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		release()
		return fail(err)
	}
	port := addr.Port()
	switch b := bound.(type) {
	case *unix.SockaddrInet4:
		port = uint16(b.Port)
	case *unix.SockaddrInet6:
		port = uint16(b.Port)
	}
	return netip.AddrPortFrom(addr.Addr(), port), release, nil
}
