package protocol_test

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"github.com/bradawl/bradawl/protocol"
)

func TestAWitnessHoldsForItsAddressSocketAndTimeOnly(t *testing.T) {
	s := protocol.NewWitnessSecret()
	a := netip.MustParseAddrPort("192.0.2.1:4000")
	const now, age = int64(1e18), time.Second
	w := s.Make(a, 1, now)
	flipped := func(i int) []byte {
		b := bytes.Clone(w)
		b[i] ^= 1
		return b
	}
	for name, tc := range map[string]struct {
		by     protocol.WitnessSecret
		w      []byte
		a      netip.AddrPort
		socket byte
		now    int64
		want   bool
	}{
		"at once":        {s, w, a, 1, now, true},
		"at its end":     {s, w, a, 1, now + int64(age), true},
		"too old":        {s, w, a, 1, now + int64(age) + 1, false},
		"of the future":  {s, w, a, 1, now - 1, false},
		"other port":     {s, w, netip.AddrPortFrom(a.Addr(), 4001), 1, now, false},
		"other address":  {s, w, netip.MustParseAddrPort("192.0.2.2:4000"), 1, now, false},
		"no address":     {s, w, netip.AddrPort{}, 1, now, false},
		"other socket":   {s, w, a, 0, now, false},
		"other secret":   {protocol.NewWitnessSecret(), w, a, 1, now, false},
		"stamp changed":  {s, flipped(7), a, 1, now, false},
		"HMAC changed":   {s, flipped(protocol.WitnessLen - 1), a, 1, now, false},
		"cut":            {s, w[:protocol.WitnessLen-1], a, 1, now, false},
		"with more":      {s, append(bytes.Clone(w), 0), a, 1, now, false},
		"nothing at all": {s, nil, a, 1, now, false},
	} {
		if got := tc.by.Check(tc.w, tc.a, tc.socket, tc.now, age); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestAWitnessIsAskedForByAsManyBytes(t *testing.T) {
	want := protocol.Probe{TransactionID: [12]byte{7}, Witness: true}
	b, err := protocol.AppendProbe(nil, want)
	const bytesOf = "0001001c2112a442070000000000000000000000c0b50018" + "000000000000000000000000000000000000000000000000"
	if err != nil || hex.EncodeToString(b) != bytesOf {
		t.Fatalf("%x, %v; want %s", b, err, bytesOf)
	}
	if p, err := protocol.ParseProbe(b); err != nil || !p.Witness || p.Unknown != nil {
		t.Errorf("read as %+v, %v", p, err)
	}
	short := append(bytes.Clone(b[:24]), make([]byte, 20)...)
	short[3], short[23] = 24, 20
	if p, err := protocol.ParseProbe(short); err == nil && p.Witness {
		t.Error("20 bytes ask for 24")
	}
	a := netip.MustParseAddrPort("[2001:db8::1]:4000")
	w := protocol.NewWitnessSecret().Make(a, 0, 5)
	out, err := protocol.AppendWitnessed(nil, want.TransactionID, a, w)
	if err != nil || len(out) > len(b)+24 {
		t.Fatalf("%d bytes answer %d, %v", len(out), len(b), err)
	}
	r, err := protocol.ParseBindingResponse(out)
	if err != nil || r.Mapped != a || !bytes.Equal(r.Witness, w) {
		t.Errorf("read as %+v, %v", r, err)
	}
}
