package natlab

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolValue is struct ethtool_value, ethtoolRequest struct ifreq.
type ethtoolValue struct{ command, value uint32 }

type ethtoolRequest struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

// ethtool sends a command to a link of the calling thread's namespace, and returns the value.
func ethtool(link string, command, value uint32) (uint32, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("natlab: open a socket for ethtool: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	v := &ethtoolValue{command, value}
	r := &ethtoolRequest{data: unsafe.Pointer(v)}
	copy(r.name[:len(r.name)-1], link)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(r)))
	if errno != 0 {
		return 0, fmt.Errorf("natlab: ethtool command %#x on %s: %w", command, link, errno)
	}
	return v.value, nil
}

// settle makes the kernel notice now that a link has a carrier. Of the two ends of a veth
// pair, the one brought up first gets its carrier later, and would swallow packets
// until a work queue has run. Asking for the state does that work at once.
func settle(link string) error {
	up, err := ethtool(link, unix.ETHTOOL_GLINK, 0)
	if err == nil && up == 0 {
		err = fmt.Errorf("natlab: link %s has no carrier", link)
	}
	return err
}
