package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/pion/stun/v2"
)

// MaxPaddedSTUN bounds, in bytes, the STUN requests that are decoded where a client looks for the path's MTU: what
// fits into an Ethernet frame.
const MaxPaddedSTUN = 1500

// Attributes of RFC 5780 section 7, by which a client finds out how its NAT behaves.
const (
	changeIP        = 1 << 2
	changePort      = 1 << 1
	responsePortLen = 4
	changeLen       = 4
	maxUnknown      = 4 // named in a 420 response, at most
)

// ErrorUnknownAttribute is the error code of RFC 8489 section 14.8 for a request that asks for what the server does not
// understand or cannot do.
const ErrorUnknownAttribute = 420

// Probe is a plain Binding request with what RFC 5780 adds for the discovery of a NAT's behaviour. The zero value is an
// ordinary Binding request.
type Probe struct {
	TransactionID [12]byte
	// ChangeIP asks for an answer from the server's other address, ChangePort from its other port (CHANGE-REQUEST).
	ChangeIP, ChangePort bool
	// ResponsePort asks for an answer to another port of the address that the request comes from (RESPONSE-PORT). 0: to
	// the same port.
	ResponsePort uint16
	// Size is how long the message is to be, in bytes, filled up by PADDING; rounded down to a multiple of 4. 0, or less
	// than what the message needs anyway: no PADDING. At most [MaxPaddedSTUN].
	Size int
	// Witness asks for the server's word that somebody receives at the mapped address: see [WitnessSecret].
	Witness bool
	// Unknown holds up to four types of comprehension-required attributes that this package does not know. A server
	// answers 420 then. Set by [ParseProbe] only.
	Unknown []uint16
}

// Asks tells whether the request is more than an ordinary one.
func (p Probe) Asks() bool { return p.ChangeIP || p.ChangePort || p.ResponsePort != 0 }

// ParseProbe decodes a Binding request of up to [MaxPaddedSTUN] bytes, as a server sees it. It copies b. Errors wrap
// ErrNotBinding.
func ParseProbe(b []byte) (Probe, error) {
	m, err := decodeUpTo(b, stun.BindingRequest, MaxPaddedSTUN)
	if err != nil {
		return Probe{}, err
	}
	p := Probe{TransactionID: m.TransactionID, Size: len(b)}
	for _, a := range m.Attributes {
		switch a.Type {
		case stun.AttrChangeRequest:
			flags := binary.BigEndian.Uint32(a.Value)
			p.ChangeIP, p.ChangePort = flags&changeIP != 0, flags&changePort != 0
		case stun.AttrResponsePort:
			p.ResponsePort = binary.BigEndian.Uint16(a.Value)
		case attrWitness:
			p.Witness = len(a.Value) == WitnessLen
		case stun.AttrPadding, stun.AttrUsername, stun.AttrMessageIntegrity, stun.AttrXORMappedAddress:
		default:
			if a.Type.Required() && len(p.Unknown) < maxUnknown {
				p.Unknown = append(p.Unknown, uint16(a.Type))
			}
		}
	}
	return p, nil
}

// AppendProbe appends the request to dst.
func AppendProbe(dst []byte, p Probe) ([]byte, error) {
	if p.Size > MaxPaddedSTUN {
		return dst, fmt.Errorf("STUN request of %d bytes, must be at most %d", p.Size, MaxPaddedSTUN)
	}
	var attrs []stun.Setter
	size := 20
	if p.ChangeIP || p.ChangePort {
		var flags uint32
		if p.ChangeIP {
			flags |= changeIP
		}
		if p.ChangePort {
			flags |= changePort
		}
		attrs = append(attrs, stun.RawAttribute{Type: stun.AttrChangeRequest, Value: binary.BigEndian.AppendUint32(nil, flags)})
		size += 4 + changeLen
	}
	if p.ResponsePort != 0 {
		attrs = append(attrs, stun.RawAttribute{Type: stun.AttrResponsePort,
			Value: append(binary.BigEndian.AppendUint16(nil, p.ResponsePort), 0, 0)})
		size += 4 + responsePortLen
	}
	if p.Witness {
		attrs = append(attrs, stun.RawAttribute{Type: attrWitness, Value: make([]byte, WitnessLen)})
		size += 4 + WitnessLen
	}
	if room := (p.Size - size) &^ 3; room >= 4 {
		attrs = append(attrs, stun.RawAttribute{Type: stun.AttrPadding, Value: make([]byte, room-4)})
	}
	return appendMessage(dst, p.TransactionID, stun.BindingRequest, nil, attrs...)
}

// AppendUnknownAttributes appends the 420 response to a request whose attributes the server does not understand. It is
// never more than 24 bytes longer than the smallest request.
func AppendUnknownAttributes(dst []byte, tid [12]byte, types []uint16) ([]byte, error) {
	if len(types) > maxUnknown {
		types = types[:maxUnknown]
	}
	var list []byte
	for _, t := range types {
		list = binary.BigEndian.AppendUint16(list, t)
	}
	return appendMessage(dst, tid, stun.BindingError, nil,
		stun.RawAttribute{Type: stun.AttrErrorCode, Value: []byte{0, 0, ErrorUnknownAttribute / 100, ErrorUnknownAttribute % 100}},
		stun.RawAttribute{Type: stun.AttrUnknownAttributes, Value: list})
}

// ErrProbeRefused says that the server answered a request with an error, such as 420: it cannot do what was asked.
var ErrProbeRefused = errors.New("the STUN server refused the request")

// ParseProbeAnswer decodes the answer to a Probe: the transaction and the mapped address, or, with the transaction,
// an error that wraps [ErrProbeRefused]. Other errors wrap ErrNotBinding, and the transaction is not known then.
func ParseProbeAnswer(b []byte) (tid [12]byte, mapped netip.AddrPort, err error) {
	r, err := ParseBindingResponse(b)
	if err == nil {
		return r.TransactionID, r.Mapped, nil
	}
	m, refused := decode(b, stun.BindingError)
	if refused != nil {
		return tid, mapped, err
	}
	return m.TransactionID, mapped, ErrProbeRefused
}

// ChangeRequestType and ResponsePortType are the types of the attributes that [Probe] stands for, as a 420 response
// names them.
const (
	ChangeRequestType = uint16(stun.AttrChangeRequest)
	ResponsePortType  = uint16(stun.AttrResponsePort)
)
