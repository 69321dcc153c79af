package protocol_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/bradawl/bradawl/protocol"
)

func TestInitCarriesSessionAndSenderUnderTheSessionKey(t *testing.T) {
	id, key, other := protocol.NewSessionID(), protocol.NewSessionKey(), protocol.NewSessionKey()
	tid := [12]byte{1, 2, 3}
	b, err := protocol.AppendInit(nil, tid, id, "map-3-1", key)
	if err != nil {
		t.Fatal(err)
	}
	if b[0] >= 0x40 {
		t.Errorf("first byte %#x: quic-go would take the INIT for QUIC", b[0])
	}
	r, err := protocol.ParseBindingRequest(b)
	if err != nil {
		t.Fatal(err)
	}
	if !r.IsInit() || r.Session != id || r.From != "map-3-1" || r.TransactionID != tid {
		t.Errorf("decoded %+v", r)
	}
	if err := r.Verify(key); err != nil {
		t.Errorf("own key: %v", err)
	}
	if err := r.Verify(other); !errors.Is(err, protocol.ErrIntegrity) {
		t.Errorf("other key: %v", err)
	}
}

func TestAnyFlippedBitOfAnInitIsNoticed(t *testing.T) {
	key := protocol.NewSessionKey()
	b, err := protocol.AppendInit(nil, [12]byte{9}, protocol.NewSessionID(), "a", key)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range len(b) * 8 {
		bad := bytes.Clone(b)
		bad[bit/8] ^= 1 << (bit % 8)
		if r, err := protocol.ParseBindingRequest(bad); err == nil && r.IsInit() && r.Verify(key) == nil {
			t.Errorf("bit %d flipped, and nobody noticed", bit)
		}
	}
}

func TestResponseCarriesTheMappedAddress(t *testing.T) {
	key := protocol.NewSessionKey()
	for _, addr := range []string{"192.0.2.7:1", "198.51.100.255:65535", "[2001:db8::1]:3478"} {
		for name, k := range map[string]*protocol.SessionKey{"plain": nil, "sealed": &key} {
			want := netip.MustParseAddrPort(addr)
			b, err := protocol.AppendBindingResponse(nil, [12]byte{7}, want, k)
			if err != nil {
				t.Fatal(err)
			}
			r, err := protocol.ParseBindingResponse(b)
			if err != nil || r.Mapped != want {
				t.Errorf("%s %s: got %v, %v", name, addr, r.Mapped, err)
			}
			if err := r.Verify(key); (err == nil) != (k != nil) {
				t.Errorf("%s %s: verify says %v", name, addr, err)
			}
		}
	}
}

// The sample response of RFC 5769 section 2.2: somebody else's bytes.
const rfc5769Response = "0101003c2112a442b7e7a701bc34d686fa87dfae" +
	"8022000b7465737420766563746f7220" +
	"002000080001a147e112a643" +
	"000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7" +
	"80280004c07d4c96"

func TestRFC5769SampleResponseIsRead(t *testing.T) {
	b, err := hex.DecodeString(rfc5769Response)
	if err != nil {
		t.Fatal(err)
	}
	r, err := protocol.ParseBindingResponse(b)
	if err != nil {
		t.Fatal(err)
	}
	if want := netip.MustParseAddrPort("192.0.2.1:32853"); r.Mapped != want {
		t.Errorf("mapped %v, want %v", r.Mapped, want)
	}
}

func TestPlainAnswerDoesNotAmplify(t *testing.T) {
	request := protocol.AppendBindingRequest(nil, [12]byte{})
	for _, addr := range []string{"192.0.2.7:1", "[2001:db8::1]:3478"} {
		response, err := protocol.AppendBindingResponse(nil, [12]byte{}, netip.MustParseAddrPort(addr), nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(response) > len(request)+24 {
			t.Errorf("%s: %d bytes answer %d", addr, len(response), len(request))
		}
	}
}

// attribute makes a STUN message with one attribute of the given type and value.
func attribute(messageType, attributeType uint16, value []byte) []byte {
	padded := append(bytes.Clone(value), make([]byte, (4-len(value)%4)%4)...)
	b := binary.BigEndian.AppendUint16(nil, messageType)
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(padded)))
	b = binary.BigEndian.AppendUint32(b, 0x2112a442)
	b = append(b, make([]byte, 12)...)
	b = binary.BigEndian.AppendUint16(b, attributeType)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return append(b, padded...)
}

func TestMalformedAttributesAreRefusedWithoutPanic(t *testing.T) {
	const request, success = 0x0001, 0x0101
	for name, b := range map[string][]byte{
		"zero-length XOR-MAPPED-ADDRESS":   attribute(success, 0x0020, nil),
		"XOR-MAPPED-ADDRESS of 4 bytes":    attribute(success, 0x0020, []byte{0, 1, 0, 1}),
		"IPv6 family with IPv4's length":   attribute(success, 0x0020, []byte{0, 2, 0, 1, 1, 2, 3, 4}),
		"zero-length MESSAGE-INTEGRITY":    attribute(request, 0x0008, nil),
		"MESSAGE-INTEGRITY of 21 bytes":    attribute(request, 0x0008, make([]byte, 21)),
		"zero-length FINGERPRINT":          attribute(request, 0x8028, nil),
		"wrong FINGERPRINT":                attribute(request, 0x8028, []byte{1, 2, 3, 4}),
		"USERNAME longer than any of ours": attribute(request, 0x0006, bytes.Repeat([]byte{'a'}, 400)),
		"CHANGE-REQUEST of 2 bytes":        attribute(request, 0x0003, make([]byte, 2)),
		"zero-length RESPONSE-PORT":        attribute(request, 0x0027, nil),
		"larger than any of ours":          attribute(request, 0x8022, make([]byte, 700)),
	} {
		req, reqErr := protocol.ParseBindingRequest(b)
		res, resErr := protocol.ParseBindingResponse(b)
		if !errors.Is(reqErr, protocol.ErrNotBinding) || !errors.Is(resErr, protocol.ErrNotBinding) {
			t.Errorf("%s: request %v %v, response %v %v", name, req, reqErr, res, resErr)
		}
	}
}

func TestZeroValuesVerifyNothing(t *testing.T) {
	if (protocol.Request{}).Verify(protocol.SessionKey{}) == nil || (protocol.Response{}).Verify(protocol.SessionKey{}) == nil {
		t.Error("a message that was never read verifies")
	}
}

func TestNameOfASenderIsBounded(t *testing.T) {
	for _, name := range []string{"", strings.Repeat("x", protocol.MaxNameLen+1)} {
		if _, err := protocol.AppendInit(nil, [12]byte{}, protocol.SessionID{}, name, protocol.SessionKey{}); err == nil {
			t.Errorf("a name of %d bytes is accepted", len(name))
		}
	}
	long := strings.Repeat("x", protocol.MaxNameLen)
	b, err := protocol.AppendInit(nil, [12]byte{}, protocol.SessionID{}, long, protocol.SessionKey{})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := protocol.ParseBindingRequest(b); err != nil || r.From != long {
		t.Errorf("the longest name comes back as %q, %v", r.From, err)
	}
}

func FuzzParseBinding(f *testing.F) {
	key := protocol.SessionKey{1}
	init, _ := protocol.AppendInit(nil, [12]byte{1}, protocol.SessionID{2}, "peer", key)
	answer, _ := protocol.AppendBindingResponse(nil, [12]byte{1}, netip.MustParseAddrPort("192.0.2.1:5"), &key)
	sample, _ := hex.DecodeString(rfc5769Response)
	for _, b := range [][]byte{init, answer, sample, protocol.AppendBindingRequest(nil, [12]byte{}), attribute(0x0101, 0x0020, nil), attribute(1, 8, nil)} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		if r, err := protocol.ParseBindingRequest(b); err == nil {
			_ = r.Verify(key)
			if len(r.From) > 2*protocol.MaxSTUN {
				t.Error("name out of bounds")
			}
		}
		if r, err := protocol.ParseBindingResponse(b); err == nil {
			_ = r.Verify(key)
			if !r.Mapped.IsValid() {
				t.Error("accepted without an address")
			}
		}
		if p, err := protocol.ParseProbe(b); err == nil {
			if len(p.Unknown) > 4 || p.Size != len(b) {
				t.Errorf("%x is read as %+v", b, p)
			}
			if again, err := protocol.AppendProbe(nil, p); err != nil || len(again) > len(b) {
				t.Errorf("%+v makes %d bytes of %d: %v", p, len(again), len(b), err)
			}
		}
		if tid, mapped, err := protocol.ParseProbeAnswer(b); err == nil && (!mapped.IsValid() || tid == [12]byte{} && b[8] != 0) {
			t.Error("accepted without an address or a transaction")
		}
		if !bytes.Equal(before, b) {
			t.Error("the packet was changed")
		}
	})
}
