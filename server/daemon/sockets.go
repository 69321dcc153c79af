package daemon

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
)

// sockets are all that the daemon listens on; those switched off are nil.
type sockets struct {
	main      net.PacketConn
	alternate net.PacketConn
	other     net.PacketConn
	tcp       net.Listener
	http      net.Listener
}

func (s *sockets) close() {
	for _, c := range []interface{ Close() error }{s.main, s.alternate, s.other, s.tcp, s.http} {
		if c != nil {
			_ = c.Close()
		}
	}
}

// anyPortTries is how often a free UDP port is tried until the TCP port of the same number is free too.
const anyPortTries = 16

// openSockets binds everything before anything is served, so that a port in use is noticed at once.
func openSockets(s settings) (*sockets, error) {
	out := &sockets{}
	err := out.openMain(s.Listen)
	if err == nil && s.STUNAlternate != off {
		if out.alternate, err = net.ListenPacket("udp", s.STUNAlternate); err != nil {
			err = listenError("stun-alternate", "UDP", s.STUNAlternate, err)
		}
	}
	if err == nil && s.STUNOther != off {
		if out.other, err = net.ListenPacket("udp", s.STUNOther); err != nil {
			err = listenError("stun-other", "UDP", s.STUNOther, err)
		}
	}
	if err == nil && s.HTTP != off {
		if out.http, err = net.Listen("tcp", s.HTTP); err != nil {
			err = listenError("http", "TCP", s.HTTP, err)
		}
	}
	if err != nil {
		out.close()
		return nil, err
	}
	return out, nil
}

// openMain binds UDP and TCP on one port number.
func (s *sockets) openMain(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		udp, err := net.ListenPacket("udp", addr)
		if err != nil {
			return listenError("listen", "UDP", addr, err)
		}
		at := net.JoinHostPort(host, strconv.Itoa(portOf(udp.LocalAddr())))
		tcp, err := net.Listen("tcp", at)
		if err == nil {
			s.main, s.tcp = udp, tcp
			return nil
		}
		_ = udp.Close()
		if port != "0" || try == anyPortTries {
			return listenError("listen", "TCP", at, err)
		}
	}
}

func portOf(a net.Addr) int {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return 0
	}
	return int(ap.Port())
}

func listenError(setting, network, addr string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s: %s port %s is in use; stop the other program or choose another with --%s", setting, network, addr, setting)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s: no permission for %s port %s; choose one above 1023 with --%s", setting, network, addr, setting)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s: %s is no address of this machine; choose another with --%s", setting, addr, setting)
	}
	return fmt.Errorf("%s: listen on %s %s: %w", setting, network, addr, err)
}

// publicHost is the host:port that the connection string names: what the
// setting says, else the address listened on if it is a specific one, else the
// address from which this machine sends to others, else that of its first
// interface, else loopback.
func publicHost(setting string, listening net.Addr) string {
	if setting != "" {
		return setting
	}
	ap, err := netip.ParseAddrPort(listening.String())
	if err != nil {
		return listening.String()
	}
	if ip := ap.Addr().Unmap(); !ip.IsUnspecified() {
		return netip.AddrPortFrom(ip, ap.Port()).String()
	}
	return netip.AddrPortFrom(ownAddress(), ap.Port()).String()
}

func ownAddress() netip.Addr {
	// Connecting a UDP socket sends nothing; it only looks up the route. 192.0.2.1 is nobody's (RFC 5737).
	if c, err := net.Dial("udp4", "192.0.2.1:9"); err == nil {
		defer func() { _ = c.Close() }()
		if ap, err := netip.ParseAddrPort(c.LocalAddr().String()); err == nil && !ap.Addr().IsUnspecified() {
			return ap.Addr()
		}
	}
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsGlobalUnicast() {
				return p.Addr()
			}
		}
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}
