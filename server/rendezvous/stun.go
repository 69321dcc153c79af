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

// stunServer answers STUN Binding requests (RFC 8489): to each the address that it came from, and nothing else, so that
// an answer is hardly larger than the request. A request may ask for the answer to come from another socket of the
// server, or to go to another port of its own source (RFC 5780 section 6): by that a peer finds out how its NAT
// filters and how long a mapping lasts. No request can make an answer go to another address than its own source's.
type stunServer struct {
	rates   *sourceRates
	metrics *metrics
	witness protocol.WitnessSecret
	clock   clock
	// ways out, by the socket; nil where there is none. Set before the first packet is read.
	ways [stunSockets]packetWriter
}

// packetWriter is the part of a socket that an answer needs.
type packetWriter interface {
	WriteTo(b []byte, addr net.Addr) (int, error)
}

// stunSocket is where a request came in or its answer goes out.
type stunSocket int

const (
	stunMain      stunSocket = iota // the main address and port
	stunAlternate                   // another port of the same address
	stunOther                       // another address
	stunSockets
	stunTCP = stunSockets // answers only where it was asked
)

// String is the label of the metric.
func (s stunSocket) String() string {
	return [...]string{"udp", "alternate", "other", "tcp"}[s]
}

// lowestResponsePort is the lowest port that RESPONSE-PORT may name: below it are services, and no NAT's mappings.
const lowestResponsePort = 1024

// reply is an answer and the way that it is to take.
type reply struct {
	packet []byte
	by     stunSocket
	to     netip.AddrPort
}

// answer returns the response to a packet, its bytes appended to dst; without bytes there is none.
func (s *stunServer) answer(dst, packet []byte, from netip.AddrPort, at stunSocket) (r reply) {
	result := "bad"
	defer func() { s.metrics.stun.WithLabelValues(at.String(), result).Inc() }()
	if !protocol.IsSTUN(packet) || !from.IsValid() {
		return r
	}
	if !s.rates.allow(from.Addr()) {
		result = "limited"
		return r
	}
	req, err := protocol.ParseProbe(packet)
	if err != nil {
		return r
	}
	r = reply{by: at, to: from}
	cannot := req.Unknown
	if req.ChangeIP || req.ChangePort {
		var ok bool
		if r.by, ok = s.changed(at, req.ChangeIP); !ok {
			cannot = append(cannot, protocol.ChangeRequestType)
		}
	}
	if req.ResponsePort != 0 {
		if at == stunTCP || req.ResponsePort < lowestResponsePort {
			cannot = append(cannot, protocol.ResponsePortType)
		}
		r.to = netip.AddrPortFrom(from.Addr(), req.ResponsePort)
	}
	switch {
	case len(cannot) > 0:
		r = reply{by: at, to: from}
		r.packet, err = protocol.AppendUnknownAttributes(dst, req.TransactionID, cannot)
		result = "refused"
	case req.Witness && !req.Asks() && at != stunTCP: // else it would be given to somebody else than the address's owner
		r.packet, err = protocol.AppendWitnessed(dst, req.TransactionID, from, s.witness.Make(from, byte(at), s.clock.now()))
		result = "answered"
	default:
		r.packet, err = protocol.AppendBindingResponse(dst, req.TransactionID, from, nil)
		result = "answered"
	}
	if err != nil { // no address that a socket gives leads here
		result = "bad"
		return reply{}
	}
	return r
}

// changed returns the socket on another address or another port than the one asked, if there is one.
func (s *stunServer) changed(at stunSocket, address bool) (stunSocket, bool) {
	to := stunMain
	switch {
	case at == stunTCP || at == stunOther && !address:
		return at, false
	case address && at != stunOther:
		to = stunOther
	case at == stunMain:
		to = stunAlternate
	}
	return to, s.ways[to] != nil
}

// respond answers one packet. A lost answer is asked for again, so errors do not count.
func (s *stunServer) respond(dst, packet []byte, from net.Addr, at stunSocket) {
	r := s.answer(dst, packet, addrPortOf(from), at)
	if len(r.packet) == 0 {
		return
	}
	to := from
	if r.to != addrPortOf(from) {
		to = net.UDPAddrFromAddrPort(r.to)
	}
	_, _ = s.ways[r.by].WriteTo(r.packet, to)
}

// maxAnswer is enough for any answer.
const maxAnswer = 128

// shared answers what arrives beside QUIC on the main socket, until ctx ends or the socket is closed.
func (s *stunServer) shared(ctx context.Context, t nonQUIC) error {
	in, out := make([]byte, 2048), make([]byte, 0, maxAnswer)
	for {
		n, from, err := t.ReadNonQUICPacket(ctx, in)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		s.respond(out, in[:n], from, stunMain)
	}
}

// nonQUIC is the part of quic.Transport that STUN uses.
type nonQUIC interface {
	ReadNonQUICPacket(ctx context.Context, b []byte) (int, net.Addr, error)
	packetWriter
}

// alone answers on a socket of STUN's own until it is closed.
func (s *stunServer) alone(conn net.PacketConn, at stunSocket) error {
	in, out := make([]byte, 2048), make([]byte, 0, maxAnswer)
	for {
		n, from, err := conn.ReadFrom(in)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		s.respond(out, in[:n], from, at)
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
	in, out := make([]byte, protocol.MaxSTUN), make([]byte, 0, maxAnswer)
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
		a := s.answer(out, packet, from, stunTCP)
		if len(a.packet) == 0 {
			return
		}
		if _, err := conn.Write(a.packet); err != nil {
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
