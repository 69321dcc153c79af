package protocol

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/pion/stun/v2"
)

// ErrNotBinding says that a packet is no STUN Binding request or response of the form that bradawl uses.
var ErrNotBinding = errors.New("not a STUN binding message")

// ErrIntegrity says that a packet carries no MESSAGE-INTEGRITY, or one under another key.
var ErrIntegrity = errors.New("STUN message integrity check failed")

// MaxSTUN bounds, in bytes, the STUN messages that are decoded: more is never needed.
const MaxSTUN = 576

// Sizes of attributes, RFC 8489 section 14. pion/stun/v2 panics on some that are shorter, so they are
// checked before it looks at them.
const (
	integrityLen   = 20
	fingerprintLen = 4
	maxUsername    = 2*16 + 1 + MaxNameLen
)

// Request is a Binding request (RFC 8489 section 2), plain or an INIT.
type Request struct {
	TransactionID [12]byte
	// Session and From are what the USERNAME of an INIT says; From is empty in a plain request.
	Session SessionID
	From    string

	message *stun.Message
}

// Response is a Binding success response.
type Response struct {
	TransactionID [12]byte
	// Mapped is the XOR-MAPPED-ADDRESS: the address from which the request came.
	Mapped netip.AddrPort
	// Witness is the server's word for that address; nil if the response has none.
	Witness []byte

	message *stun.Message
}

// IsSTUN tells whether a packet has the form of a STUN message: the first two bits zero and the magic cookie.
func IsSTUN(b []byte) bool { return len(b) >= 20 && b[0]&0xc0 == 0 && stun.IsMessage(b) }

// ParseBindingRequest decodes a Binding request. It copies b. Errors wrap ErrNotBinding.
// It does not check the integrity: the key is known only once the session is.
func ParseBindingRequest(b []byte) (Request, error) {
	m, err := decode(b, stun.BindingRequest)
	if err != nil {
		return Request{}, err
	}
	r := Request{TransactionID: m.TransactionID, message: m}
	user, err := m.Get(stun.AttrUsername)
	if err != nil {
		return r, nil // plain STUN
	}
	id, from, ok := strings.Cut(string(user), ":")
	if !ok || from == "" {
		return r, nil // somebody else's USERNAME: answered like plain STUN
	}
	if r.Session, err = ParseSessionID(id); err != nil {
		return Request{TransactionID: m.TransactionID, message: m}, nil
	}
	r.From = from
	return r, nil
}

// IsInit tells whether the request names a session and a sender, as an INIT does.
func (r Request) IsInit() bool { return r.From != "" }

// Verify checks MESSAGE-INTEGRITY under the session's key; the error is ErrIntegrity.
func (r Request) Verify(key SessionKey) error { return verify(r.message, key) }

// ParseBindingResponse decodes a Binding success response. It copies b. Errors wrap ErrNotBinding.
func ParseBindingResponse(b []byte) (Response, error) {
	m, err := decode(b, stun.BindingSuccess)
	if err != nil {
		return Response{}, err
	}
	var mapped stun.XORMappedAddress
	if err := mapped.GetFrom(m); err != nil {
		return Response{}, fmt.Errorf("%w: no usable XOR-MAPPED-ADDRESS", ErrNotBinding)
	}
	ip, ok := netip.AddrFromSlice(mapped.IP)
	if !ok || mapped.Port <= 0 || mapped.Port > 65535 {
		return Response{}, fmt.Errorf("%w: no usable XOR-MAPPED-ADDRESS", ErrNotBinding)
	}
	r := Response{TransactionID: m.TransactionID, Mapped: netip.AddrPortFrom(ip.Unmap(), uint16(mapped.Port)), message: m}
	if w, err := m.Get(attrWitness); err == nil && len(w) == WitnessLen {
		r.Witness = w
	}
	return r, nil
}

// Verify checks MESSAGE-INTEGRITY under the session's key; the error is ErrIntegrity.
func (r Response) Verify(key SessionKey) error { return verify(r.message, key) }

// AppendBindingRequest appends a plain Binding request to dst.
func AppendBindingRequest(dst []byte, tid [12]byte) []byte {
	out, err := appendMessage(dst, tid, stun.BindingRequest, nil)
	if err != nil {
		return dst // no attribute of ours can fail here
	}
	return out
}

// AppendInit appends an INIT to dst: a Binding request with the USERNAME "session:name" of the sender,
// MESSAGE-INTEGRITY under key and FINGERPRINT. It fails if the name is empty or longer than MaxNameLen.
func AppendInit(dst []byte, tid [12]byte, id SessionID, from string, key SessionKey) ([]byte, error) {
	if from == "" || len(from) > MaxNameLen {
		return dst, fmt.Errorf("INIT from a name of %d bytes, must be 1 to %d", len(from), MaxNameLen)
	}
	return appendMessage(dst, tid, stun.BindingRequest, &key, stun.NewUsername(id.String()+":"+from))
}

// AppendBindingResponse appends the answer to a request: XOR-MAPPED-ADDRESS, and with a key also
// MESSAGE-INTEGRITY and FINGERPRINT. A plain answer (key nil) is never more than 24 bytes longer than the
// smallest request.
func AppendBindingResponse(dst []byte, tid [12]byte, mapped netip.AddrPort, key *SessionKey) ([]byte, error) {
	if !mapped.IsValid() {
		return dst, errors.New("binding response without an address")
	}
	addr := stun.XORMappedAddress{IP: mapped.Addr().Unmap().AsSlice(), Port: int(mapped.Port())}
	return appendMessage(dst, tid, stun.BindingSuccess, key, addr)
}

func appendMessage(dst []byte, tid [12]byte, t stun.MessageType, key *SessionKey, attrs ...stun.Setter) ([]byte, error) {
	setters := append([]stun.Setter{stun.NewTransactionIDSetter(tid), t}, attrs...)
	if key != nil {
		setters = append(setters, stun.MessageIntegrity(key[:]), stun.Fingerprint)
	}
	m, err := stun.Build(setters...)
	if err != nil {
		return dst, fmt.Errorf("build STUN message: %w", err)
	}
	return append(dst, m.Raw...), nil
}

// decode accepts only what bradawl or a plain STUN client sends: exactly one message, attributes of the
// right size, MESSAGE-INTEGRITY followed by nothing but FINGERPRINT, FINGERPRINT last and right.
func decode(b []byte, want stun.MessageType) (*stun.Message, error) {
	return decodeUpTo(b, want, MaxSTUN)
}

func decodeUpTo(b []byte, want stun.MessageType, size int) (*stun.Message, error) {
	if !IsSTUN(b) || len(b) > size {
		return nil, ErrNotBinding
	}
	m := new(stun.Message)
	if err := stun.Decode(b, m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotBinding, err)
	}
	if int(m.Length)+20 != len(b) || m.Type != want {
		return nil, ErrNotBinding
	}
	sealed := false
	for i, a := range m.Attributes {
		last := i == len(m.Attributes)-1
		var ok bool
		switch a.Type {
		case stun.AttrXORMappedAddress:
			ok = !sealed && validXORAddress(a.Value)
		case stun.AttrMessageIntegrity:
			ok = !sealed && len(a.Value) == integrityLen
			sealed = true
		case stun.AttrFingerprint:
			ok = last && len(a.Value) == fingerprintLen && stun.Fingerprint.Check(m) == nil
		case stun.AttrUsername:
			ok = !sealed && len(a.Value) <= maxUsername
		case stun.AttrChangeRequest:
			ok = !sealed && len(a.Value) == changeLen
		case stun.AttrResponsePort:
			ok = !sealed && (len(a.Value) == responsePortLen || len(a.Value) == responsePortLen-2) // both are in use
		default:
			ok = !sealed
		}
		if !ok {
			return nil, fmt.Errorf("%w: bad %s", ErrNotBinding, a.Type)
		}
	}
	return m, nil
}

func validXORAddress(v []byte) bool {
	return len(v) == 8 && v[1] == 1 || len(v) == 20 && v[1] == 2
}

func verify(m *stun.Message, key SessionKey) error {
	if m == nil || stun.MessageIntegrity(key[:]).Check(m) != nil {
		return ErrIntegrity
	}
	return nil
}
