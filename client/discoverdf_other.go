//go:build !linux

package client

import (
	"errors"
	"net"
)

// forbidFragments is known on Linux only.
func forbidFragments(net.PacketConn, bool) error {
	return errors.New("forbidding fragments is implemented on Linux only")
}
