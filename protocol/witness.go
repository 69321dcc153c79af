package protocol

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/pion/stun/v2"
)

// The WITNESS attribute. A request carries it filled with zeros, so that the answer is hardly larger:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-------------------------------+-------------------------------+
//	|        0xc0b5 WITNESS         |              24               |
//	+-------------------------------+-------------------------------+
//	|          nanoseconds since 1970 on the server's clock (64)    |
//	|                                                               |
//	+---------------------------------------------------------------+
//	|          HMAC-SHA256 under a secret of the server (128)       |
//	+---------------------------------------------------------------+
const (
	attrWitness stun.AttrType = 0xc0b5 // comprehension-optional, RFC 8489 section 18.3
	// WitnessLen is the length, in bytes, of a witness.
	WitnessLen = 8 + witnessMAC
	witnessMAC = 16
)

// WitnessSecret is a server's key for witnesses: its word, which only it can check, that somebody received at an address.
// A request with a forged source gets none, as the answer goes to the address's owner.
type WitnessSecret [32]byte

// NewWitnessSecret returns a random secret. It does not fail: see crypto/rand.Read.
func NewWitnessSecret() (s WitnessSecret) {
	_, _ = rand.Read(s[:])
	return s
}

// Make returns the witness, [WitnessLen] bytes, for an address that a socket of the server, told apart by a number, sees
// at an instant in nanoseconds since 1970.
func (s WitnessSecret) Make(a netip.AddrPort, socket byte, at int64) []byte {
	stamp := binary.BigEndian.AppendUint64(nil, uint64(at))
	return append(stamp, s.mac(a, socket, stamp)...)
}

// Check tells whether w was made for the address and the socket, no longer than maxAge before now and not after it.
func (s WitnessSecret) Check(w []byte, a netip.AddrPort, socket byte, now int64, maxAge time.Duration) bool {
	if len(w) != WitnessLen || !a.IsValid() || !hmac.Equal(w[8:], s.mac(a, socket, w[:8])) {
		return false
	}
	age := now - int64(binary.BigEndian.Uint64(w))
	return age >= 0 && age <= int64(maxAge)
}

func (s WitnessSecret) mac(a netip.AddrPort, socket byte, stamp []byte) []byte {
	h := hmac.New(sha256.New, s[:])
	ip := a.Addr().As16()
	h.Write([]byte("bradawl witness"))
	h.Write(stamp)
	h.Write(ip[:])
	h.Write(binary.BigEndian.AppendUint16([]byte{socket}, a.Port()))
	return h.Sum(nil)[:witnessMAC]
}

// AppendWitnessed appends the answer to a plain request with WITNESS: XOR-MAPPED-ADDRESS and the witness for it. It is
// at most 24 bytes longer than such a request.
func AppendWitnessed(dst []byte, tid [12]byte, mapped netip.AddrPort, witness []byte) ([]byte, error) {
	if !mapped.IsValid() || len(witness) != WitnessLen {
		return dst, ErrNotBinding
	}
	addr := stun.XORMappedAddress{IP: mapped.Addr().Unmap().AsSlice(), Port: int(mapped.Port())}
	return appendMessage(dst, tid, stun.BindingSuccess, nil, addr, stun.RawAttribute{Type: attrWitness, Value: witness})
}
