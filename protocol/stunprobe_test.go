package protocol_test

import (
	"encoding/hex"
	"errors"
	"reflect"
	"testing"

	"github.com/bradawl/bradawl/protocol"
)

func TestProbeCarriesWhatRFC5780Adds(t *testing.T) {
	tid := [12]byte{1, 2, 3}
	for want, p := range map[string]protocol.Probe{
		"000100002112a442010203000000000000000000":                                 {TransactionID: tid},
		"000100082112a4420102030000000000000000000003000400000006":                 {TransactionID: tid, ChangeIP: true, ChangePort: true},
		"000100082112a4420102030000000000000000000003000400000002":                 {TransactionID: tid, ChangePort: true},
		"000100082112a44201020300000000000000000000270004ea600000":                 {TransactionID: tid, ResponsePort: 60000},
		"0001000c2112a442010203000000000000000000002600080000000000000000":         {TransactionID: tid, Size: 35},
		"000100102112a44201020300000000000000000000030004000000040026000400000000": {TransactionID: tid, ChangeIP: true, Size: 36},
	} {
		b, err := protocol.AppendProbe(nil, p)
		if err != nil || hex.EncodeToString(b) != want {
			t.Errorf("%+v is %x, want %s: %v", p, b, want, err)
		}
		p.Size = len(b)
		if got, err := protocol.ParseProbe(b); err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("%x is read as %+v, %v; want %+v", b, got, err, p)
		}
	}
	if _, err := protocol.AppendProbe(nil, protocol.Probe{Size: protocol.MaxPaddedSTUN + 1}); err == nil {
		t.Error("a probe above the bound is made")
	}
}

func TestUnknownAttributesAreNamedInTheRefusal(t *testing.T) {
	p, err := protocol.ParseProbe(attribute(1, 0x7abc, make([]byte, 8)))
	if err != nil || !reflect.DeepEqual(p.Unknown, []uint16{0x7abc}) {
		t.Fatalf("read as %+v, %v", p, err)
	}
	if p, err := protocol.ParseProbe(attribute(1, 0x8022, make([]byte, 8))); err != nil || p.Unknown != nil {
		t.Errorf("an optional attribute is read as %+v, %v", p, err)
	}
	b, err := protocol.AppendUnknownAttributes(nil, [12]byte{5}, []uint16{0x7abc, 3, 4, 5, 6, 7})
	const want = "0111001" + "42112a442" + "050000000000000000000000" + "0009000400000414" + "000a00087abc000300040005"
	if err != nil || hex.EncodeToString(b) != want {
		t.Errorf("the refusal is %x, want %s: %v", b, want, err)
	}
	if len(b) > 20+24 {
		t.Errorf("%d bytes answer 20", len(b))
	}
	tid, _, err := protocol.ParseProbeAnswer(b)
	if tid != [12]byte{5} || !errors.Is(err, protocol.ErrProbeRefused) {
		t.Errorf("read as %x, %v", tid, err)
	}
}
