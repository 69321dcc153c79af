package protocol

import (
	"encoding/binary"
	"errors"
)

// Clock datagrams travel as QUIC datagrams (RFC 9221) on the control
// connection; T1 to T3 are RFC 5905's origin, receive and transmit instants,
// each in nanoseconds since 1970, big endian, T1 on the client's clock, T2 and
// T3 on the server's:
//
//	0      1         5        13       21       29
//	+------+---------+--------+-----------------+
//	| 0x01 | ID (4)  | T1 (8) |    zeros (16)   |    ClockRequest
//	+------+---------+--------+--------+--------+
//	| 0x02 | ID (4)  | T1 (8) | T2 (8) | T3 (8) |    ClockReply
//	+------+---------+--------+--------+--------+
//
// A request is as long as its reply, so that both ways take equally long, and
// longer than the smallest packet that a server which has lost its state answers
// by a stateless reset (RFC 9000 section 10.3): a client then learns from its
// next request that the server has restarted.
const (
	clockRequestType = 0x01
	clockReplyType   = 0x02
	clockLen         = 29
)

// ErrNotClock says that a datagram is not the clock datagram asked for.
var ErrNotClock = errors.New("not a clock datagram")

// ClockRequest asks the server for its time.
type ClockRequest struct {
	// ID is repeated in the reply.
	ID uint32
	// T1 is when the client sent it, on the client's clock.
	T1 int64
}

// ClockReply answers a ClockRequest.
type ClockReply struct {
	// ID and T1 are the request's.
	ID uint32
	T1 int64
	// T2 is when the server received the request, T3 when it sent the reply, both on the server's clock.
	T2, T3 int64
}

// Append appends the datagram to b.
func (c ClockRequest) Append(b []byte) []byte {
	b = append(b, clockRequestType)
	b = binary.BigEndian.AppendUint32(b, c.ID)
	b = binary.BigEndian.AppendUint64(b, uint64(c.T1))
	return append(b, make([]byte, clockLen-13)...)
}

// Append appends the datagram to b.
func (c ClockReply) Append(b []byte) []byte {
	b = append(b, clockReplyType)
	b = binary.BigEndian.AppendUint32(b, c.ID)
	for _, t := range [...]int64{c.T1, c.T2, c.T3} {
		b = binary.BigEndian.AppendUint64(b, uint64(t))
	}
	return b
}

// ParseClockRequest decodes a request, whatever its padding; the error is ErrNotClock.
func ParseClockRequest(b []byte) (ClockRequest, error) {
	if len(b) != clockLen || b[0] != clockRequestType {
		return ClockRequest{}, ErrNotClock
	}
	return ClockRequest{ID: binary.BigEndian.Uint32(b[1:]), T1: int64(binary.BigEndian.Uint64(b[5:]))}, nil
}

// ParseClockReply decodes a reply; the error is ErrNotClock.
func ParseClockReply(b []byte) (ClockReply, error) {
	if len(b) != clockLen || b[0] != clockReplyType {
		return ClockReply{}, ErrNotClock
	}
	return ClockReply{
		ID: binary.BigEndian.Uint32(b[1:]),
		T1: int64(binary.BigEndian.Uint64(b[5:])),
		T2: int64(binary.BigEndian.Uint64(b[13:])),
		T3: int64(binary.BigEndian.Uint64(b[21:])),
	}, nil
}
