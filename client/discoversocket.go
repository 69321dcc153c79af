package client

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/bradawl/bradawl/protocol"
)

// errNoSockets says that further sockets cannot be opened, because the client's own was given to it.
var errNoSockets = errors.New("it needs further sockets; set Config.ListenPacket")

// openAnother opens a further socket on the network of the client's own one.
func (c *Client) openAnother() (net.PacketConn, error) {
	switch {
	case c.cfg.ListenPacket != nil:
		return c.cfg.ListenPacket()
	case c.cfg.PacketConn != nil:
		return nil, errNoSockets
	}
	c.mu.Lock()
	ctl := c.control
	c.mu.Unlock()
	network, any := "udp6", netip.IPv6Unspecified()
	if ctl == nil || is4(ctl.server) {
		network, any = "udp4", netip.IPv4Unspecified()
	}
	return net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(any, 0)))
}

// heard is a STUN message that came to a probing socket.
type heard struct {
	tid     [12]byte
	from    netip.AddrPort
	mapped  netip.AddrPort // of a success response
	refused bool           // an error response
	request bool           // a Binding request: our own, through the NAT's hairpin
}

// probeSocket is a socket, and thereby a mapping, for one test of discovery. One goroutine uses it.
type probeSocket struct {
	pc   net.PacketConn
	in   chan heard
	done sync.WaitGroup
}

// probeQueue is how many messages may wait for a test to look at them; the tests send fewer at a time.
const probeQueue = 256

func (c *Client) newProbeSocket() (*probeSocket, error) {
	pc, err := c.openAnother()
	if err != nil {
		return nil, err
	}
	s := &probeSocket{pc: pc, in: make(chan heard, probeQueue)}
	s.done.Go(s.read)
	return s, nil
}

func (s *probeSocket) close() {
	_ = s.pc.Close()
	s.done.Wait()
}

func (s *probeSocket) read() {
	buf := make([]byte, protocol.MaxPaddedSTUN+1)
	for {
		n, from, err := s.pc.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			if n == 0 && from == nil && !temporary(err) {
				return
			}
			continue // an ICMP error of an earlier packet
		}
		h := heard{from: addrPort(from)}
		var perr error
		h.tid, h.mapped, perr = protocol.ParseProbeAnswer(buf[:n])
		switch {
		case perr == nil:
		case errors.Is(perr, protocol.ErrProbeRefused):
			h.refused = true
		default:
			p, err := protocol.ParseProbe(buf[:n])
			if err != nil {
				continue
			}
			h.tid, h.request = p.TransactionID, true
		}
		select {
		case s.in <- h:
		default:
		}
	}
}

// temporary tells whether a socket that gave this error may still be read from.
func temporary(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && !op.Timeout()
}

// send sends one request. The transaction id is random unless set.
func (s *probeSocket) send(p protocol.Probe, to netip.AddrPort) ([12]byte, error) {
	if p.TransactionID == [12]byte{} {
		_, _ = rand.Read(p.TransactionID[:]) // does not fail
	}
	b, err := protocol.AppendProbe(nil, p)
	if err == nil {
		_, err = s.pc.WriteTo(b, udpAddr(to))
	}
	return p.TransactionID, err
}

// until hands what comes in to see, until that returns true (then it does too), the time is over or ctx ends.
func (s *probeSocket) until(ctx context.Context, d time.Duration, see func(heard) bool) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case h := <-s.in:
			if see(h) {
				return true
			}
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// ask sends a plain Binding request until it is answered. The address is invalid if it never is.
func (s *probeSocket) ask(ctx context.Context, server netip.AddrPort) (mapped netip.AddrPort, rtt time.Duration) {
	sent := make(map[[12]byte]time.Time)
	for _, wait := range stunRetries() {
		now := time.Now()
		tid, err := s.send(protocol.Probe{}, server)
		if err != nil {
			continue
		}
		sent[tid] = now
		if s.until(ctx, wait, func(h heard) bool {
			began, ours := sent[h.tid]
			if !ours || h.from != server || !h.mapped.IsValid() {
				return false
			}
			mapped, rtt = h.mapped, time.Since(began)
			return true
		}) || ctx.Err() != nil {
			break
		}
	}
	return mapped, rtt
}
