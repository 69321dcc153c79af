package rendezvous

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/bradawl/bradawl/protocol"
)

// stunServer answers plain STUN Binding requests (RFC 8489): to each the
// address that it came from, and nothing else, so that an answer is hardly
// larger than the request and goes nowhere but to its source.
type stunServer struct {
	rates   *sourceRates
	metrics *metrics
}

// answer returns the response to a packet, appended to dst, or nil if there is none.
func (s *stunServer) answer(dst, packet []byte, from netip.AddrPort, transport string) []byte {
	result := "bad"
	defer func() { s.metrics.stun.WithLabelValues(transport, result).Inc() }()
	if !protocol.IsSTUN(packet) || !from.IsValid() {
		return nil
	}
	if !s.rates.allow(from.Addr()) {
		result = "limited"
		return nil
	}
	req, err := protocol.ParseBindingRequest(packet)
	if err != nil {
		return nil
	}
	out, err := protocol.AppendBindingResponse(dst, req.TransactionID, from, nil)
	if err != nil {
		return nil
	}
	result = "answered"
	return out
}

// shared answers what arrives beside QUIC on the main socket, until ctx ends or the socket is closed.
func (s *stunServer) shared(ctx context.Context, t nonQUIC) error {
	in, out := make([]byte, 2048), make([]byte, 0, 128)
	for {
		n, from, err := t.ReadNonQUICPacket(ctx, in)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if a := s.answer(out, in[:n], addrPortOf(from), "udp"); a != nil {
			_, _ = t.WriteTo(a, from) // a lost answer is asked for again
		}
	}
}

// nonQUIC is the part of quic.Transport that STUN uses.
type nonQUIC interface {
	ReadNonQUICPacket(ctx context.Context, b []byte) (int, net.Addr, error)
	WriteTo(b []byte, addr net.Addr) (int, error)
}

// alternate answers on the second socket until it is closed.
func (s *stunServer) alternate(conn net.PacketConn) error {
	in, out := make([]byte, 2048), make([]byte, 0, 128)
	for {
		n, from, err := conn.ReadFrom(in)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if a := s.answer(out, in[:n], addrPortOf(from), "alternate"); a != nil {
			_, _ = conn.WriteTo(a, from)
		}
	}
}

const (
	// tcpIdle is how long a STUN connection over TCP may take for a request and its answer.
	tcpIdle = 5 * time.Second
	// tcpRequests is how many requests it may carry.
	tcpRequests = 8
	stunHeader  = 20
)

// stream answers the requests of one TCP connection. STUN over TCP needs no
// framing but the length in the header (RFC 8489 section 6.2.2).
func (s *stunServer) stream(conn net.Conn) {
	from := addrPortOf(conn.RemoteAddr())
	in, out := make([]byte, protocol.MaxSTUN), make([]byte, 0, 128)
	for range tcpRequests {
		if conn.SetDeadline(time.Now().Add(tcpIdle)) != nil {
			return
		}
		packet, err := readSTUN(conn, in)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				s.metrics.stun.WithLabelValues("tcp", "bad").Inc()
			}
			return
		}
		a := s.answer(out, packet, from, "tcp")
		if a == nil {
			return
		}
		if _, err := conn.Write(a); err != nil {
			return
		}
	}
}

// readSTUN reads one message into buf. io.EOF: the stream ended before it.
func readSTUN(r io.Reader, buf []byte) ([]byte, error) {
	if _, err := io.ReadFull(r, buf[:stunHeader]); err != nil {
		return nil, err
	}
	n := stunHeader + int(binary.BigEndian.Uint16(buf[2:]))
	if !protocol.IsSTUN(buf[:stunHeader]) || n > len(buf) {
		return nil, protocol.ErrNotBinding
	}
	if _, err := io.ReadFull(r, buf[stunHeader:n]); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	return buf[:n], nil
}
