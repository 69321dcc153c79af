package client

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// forbidFragments makes a socket send its packets whole or not at all, whatever the kernel believes of the path's MTU.
func forbidFragments(pc net.PacketConn, v6 bool) error {
	sc, ok := pc.(syscall.Conn)
	if !ok {
		return errors.New("the socket does not let its options be set")
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return fmt.Errorf("forbid fragments: %w", err)
	}
	level, option, value := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE
	if v6 {
		level, option, value = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE
	}
	var optErr error
	err = rc.Control(func(fd uintptr) { optErr = unix.SetsockoptInt(int(fd), level, option, value) })
	if err = errors.Join(err, optErr); err != nil {
		return fmt.Errorf("forbid fragments: %w", err)
	}
	return nil
}
