package protocol_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/pb"
)

func signIn(token string) *pb.ClientMessage {
	return &pb.ClientMessage{Body: &pb.ClientMessage_SignIn{SignIn: &pb.SignIn{Token: token, Group: "g", Name: "n"}}}
}

func TestFramesFollowOneAnother(t *testing.T) {
	var wire bytes.Buffer
	want := []*pb.ClientMessage{signIn("one"), {}, signIn(strings.Repeat("x", 5000))}
	for _, m := range want {
		if err := protocol.WriteMessage(&wire, m); err != nil {
			t.Fatal(err)
		}
	}
	r := bufio.NewReader(&wire)
	for i, m := range want {
		var got pb.ClientMessage
		if err := protocol.ReadMessage(r, &got, protocol.MaxSignIn); err != nil || !proto.Equal(&got, m) {
			t.Errorf("frame %d: %v, %v", i, &got, err)
		}
	}
	if err := protocol.ReadMessage(r, &pb.ClientMessage{}, protocol.MaxSignIn); err != io.EOF {
		t.Errorf("at the end: %v, want io.EOF", err)
	}
}

func TestAFrameThatBreaksOffIsAnUnexpectedEnd(t *testing.T) {
	var wire bytes.Buffer
	if err := protocol.WriteMessage(&wire, signIn("token")); err != nil {
		t.Fatal(err)
	}
	for n := 1; n < wire.Len(); n++ {
		err := protocol.ReadMessage(bufio.NewReader(bytes.NewReader(wire.Bytes()[:n])), &pb.ClientMessage{}, protocol.MaxSignIn)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("after %d of %d bytes: %v", n, wire.Len(), err)
		}
	}
}

func TestAFrameBeyondTheBoundIsRefusedBeforeItIsRead(t *testing.T) {
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0x0f} // announces 4 GiB
	err := protocol.ReadMessage(bufio.NewReader(bytes.NewReader(huge)), &pb.ClientMessage{}, protocol.MaxSignIn)
	if !errors.Is(err, protocol.ErrMessageTooLarge) {
		t.Errorf("got %v", err)
	}
}

func FuzzReadMessage(f *testing.F) {
	var wire bytes.Buffer
	_ = protocol.WriteMessage(&wire, signIn("token"))
	f.Add(wire.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		var m pb.ClientMessage
		if protocol.ReadMessage(bufio.NewReader(bytes.NewReader(b)), &m, protocol.MaxSignIn) == nil && proto.Size(&m) > 2*protocol.MaxSignIn {
			t.Error("larger than the bound")
		}
		_ = protocol.ReadMessage(bufio.NewReader(bytes.NewReader(b)), &pb.ServerMessage{}, protocol.MaxSignIn)
	})
}

func TestClockDatagramsComeBackAsTheyWere(t *testing.T) {
	request := protocol.ClockRequest{ID: 1<<32 - 1, T1: -5}
	if got, err := protocol.ParseClockRequest(request.Append(nil)); err != nil || got != request {
		t.Errorf("got %+v, %v", got, err)
	}
	reply := protocol.ClockReply{ID: 7, T1: 1, T2: 1 << 62, T3: -1}
	if got, err := protocol.ParseClockReply(reply.Append(nil)); err != nil || got != reply {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestClockRequestIsAsLongAsItsReply(t *testing.T) {
	request, reply := protocol.ClockRequest{}.Append(nil), protocol.ClockReply{}.Append(nil)
	if len(request) != len(reply) {
		t.Errorf("%d and %d bytes: the ways there and back take differently long", len(request), len(reply))
	}
	// quic-go answers no packet of up to 42 bytes by a stateless reset; the header and seal of a short packet with a
	// 4-byte connection id, and the frame's type, take at least 23.
	if len(request)+23 <= 42 {
		t.Errorf("%d bytes are too few to be answered by a stateless reset", len(request))
	}
}

func TestClockDatagramsOnTheWire(t *testing.T) {
	got := protocol.ClockReply{ID: 0x01020304, T1: 0x11, T2: 0x22, T3: 0x33}.Append(nil)
	want := []byte{2, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0, 0, 0, 0x22, 0, 0, 0, 0, 0, 0, 0, 0x33}
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

func FuzzParseClock(f *testing.F) {
	f.Add(protocol.ClockRequest{ID: 1, T1: 2}.Append(nil))
	f.Add(protocol.ClockReply{ID: 1, T1: 2, T2: 3, T3: 4}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := protocol.ParseClockRequest(b); err == nil && !bytes.Equal(c.Append(nil)[:13], b[:13]) {
			t.Errorf("request %x reads as %+v", b, c)
		}
		if c, err := protocol.ParseClockReply(b); err == nil && !bytes.Equal(c.Append(nil), b) {
			t.Errorf("reply %x reads as %+v", b, c)
		}
	})
}

func TestReasonsKeepTheirNumbers(t *testing.T) {
	for number, name := range pb.Reason_name {
		r := protocol.ReasonFromPB(pb.Reason(number))
		if int32(r.PB()) != number {
			t.Errorf("%s becomes %q and then %v", name, r, r.PB())
		}
		if number != 0 && !strings.EqualFold(name, string(r)) {
			t.Errorf("%s is called %q in Go", name, r)
		}
		if r.Explain() == "unknown reason" {
			t.Errorf("%s has no explanation", name)
		}
	}
	if len(protocol.Reasons()) != len(pb.Reason_name)-1 {
		t.Errorf("%d reasons in Go, %d on the wire", len(protocol.Reasons()), len(pb.Reason_name)-1)
	}
	for _, unknown := range []pb.Reason{-1, 13, 1 << 30} {
		if protocol.ReasonFromPB(unknown) != protocol.ReasonCanceled {
			t.Errorf("number %d is taken for %q", unknown, protocol.ReasonFromPB(unknown))
		}
	}
}

func TestAddressesOnTheWire(t *testing.T) {
	for _, s := range []string{"192.0.2.1:1", "[2001:db8::5]:65535"} {
		want := netip.MustParseAddrPort(s)
		if got, err := protocol.AddrFromPB(protocol.AddrToPB(want)); err != nil || got != want {
			t.Errorf("%s comes back as %v, %v", s, got, err)
		}
	}
	mapped := netip.MustParseAddrPort("[::ffff:192.0.2.1]:9")
	if got, err := protocol.AddrFromPB(protocol.AddrToPB(mapped)); err != nil || got.Addr().Is6() {
		t.Errorf("an IPv4 address in IPv6 form becomes %v, %v", got, err)
	}
	for name, bad := range map[string]*pb.Address{
		"missing": nil, "no port": {Ip: []byte{1, 2, 3, 4}}, "port too large": {Ip: []byte{1, 2, 3, 4}, Port: 65536}, "5 bytes": {Ip: make([]byte, 5), Port: 1},
	} {
		if got, err := protocol.AddrFromPB(bad); err == nil {
			t.Errorf("%s: accepted as %v", name, got)
		}
	}
}

func TestConnectionStringComesBackAsItWas(t *testing.T) {
	pin := identity.Fingerprint{1, 2, 3}
	u := protocol.URL{Token: "a.b_c-d.e", Host: "rendezvous.example.org:4000", Pins: []identity.Fingerprint{pin, {9}}}
	got, err := protocol.ParseURL(u.Secret())
	if err != nil || got.Token != u.Token || got.Host != u.Host || len(got.Pins) != 2 || got.Pins[0] != pin {
		t.Errorf("%s reads as %+v, %v", u.Secret(), got, err)
	}
	if strings.Contains(u.String(), u.Token) || strings.Contains(strings.TrimSpace(u.GoString()), u.Token) {
		t.Error("printing shows the token")
	}
	for in, host := range map[string]string{
		"bradawl://t@192.0.2.1":        "192.0.2.1:3478",
		"bradawl://t@[2001:db8::1]:99": "[2001:db8::1]:99",
		"bradawl://t@[2001:db8::1]/":   "[2001:db8::1]:3478",
	} {
		if got, err := protocol.ParseURL(in); err != nil || got.Host != host {
			t.Errorf("%s names host %q, %v; want %q", in, got.Host, err, host)
		}
	}
}

func TestBadConnectionStringsAreRefusedWithoutShowingTheToken(t *testing.T) {
	const secret = "s3cr3t"
	for _, in := range []string{
		"", "http://" + secret + "@host", "bradawl://host:1", "bradawl://" + secret + ":p@host", "bradawl://" + secret + "@",
		"bradawl://" + secret + "@host:0", "bradawl://" + secret + "@host:99999", "bradawl://" + secret + "@host:x", "bradawl://" + secret + "@host/path",
		"bradawl://" + secret + "@host?pin=short", "bradawl://" + secret + "@host?pni=x", "bradawl://" + secret + "@host?pin=%zz", "bradawl://" + secret + "\x7f@host",
		"bradawl://" + secret + "@host#f",
	} {
		_, err := protocol.ParseURL(in)
		if err == nil {
			t.Errorf("%q is accepted", in)
		} else if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: error shows the token, or has several lines: %v", in, err)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("bradawl://t@host:1?pin=AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := protocol.ParseURL(s)
		if err != nil {
			return
		}
		if again, err := protocol.ParseURL(u.Secret()); err != nil || again.Token != u.Token || again.Host != u.Host || len(again.Pins) != len(u.Pins) {
			t.Errorf("%q reads as %#v and then %#v, %v", s, u, again, err)
		}
	})
}

func TestSessionIDsAndKeys(t *testing.T) {
	id := protocol.NewSessionID()
	if got, err := protocol.ParseSessionID(id.String()); err != nil || got != id {
		t.Errorf("id %s comes back as %s, %v", id, got, err)
	}
	for _, bad := range []string{"", "zz", strings.Repeat("g", 32), strings.Repeat("a", 31)} {
		if _, err := protocol.ParseSessionID(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	if _, err := protocol.SessionIDFromBytes(make([]byte, 15)); err == nil {
		t.Error("an id of 15 bytes is accepted")
	}
	if _, err := protocol.SessionKeyFromBytes(make([]byte, 33)); err == nil {
		t.Error("a key of 33 bytes is accepted")
	}
	if s := protocol.NewSessionKey().String(); s != "redacted" {
		t.Errorf("a key prints as %s", s)
	}
}
