package rendezvous

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/pb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSignInTellsAddressTimeAndWindow(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	before := time.Now()
	c := ts.signIn(t, "g", "a", "")
	in := c.signedIn
	if want := protocol.AddrToPB(addrPortOf(c.socket.LocalAddr())); !cmp.Equal(in.Observed, want, protocmp.Transform()) {
		t.Errorf("observed %v, want %v", in.Observed, want)
	}
	if at := time.Unix(0, in.ServerTimeNs); at.Before(before.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
		t.Errorf("server time %v, now %v", at, time.Now())
	}
	if in.WindowNs != int64(protocol.DefaultWindow) || in.PeerId == 0 {
		t.Errorf("window %v, peer id %d", time.Duration(in.WindowNs), in.PeerId)
	}
	if want := addrPortOf(ts.cfg.AltPacketConn.LocalAddr()).Port(); in.StunAlternate.GetPort() != uint32(want) {
		t.Errorf("alternate %v, want port %d", in.StunAlternate, want)
	}
}

func TestClockDatagramsAreAnswered(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	c := ts.signIn(t, "g", "a", "")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	want := protocol.ClockRequest{ID: 7, T1: 42}
	if err := c.conn.SendDatagram([]byte("garbage")); err != nil {
		t.Fatal(err)
	}
	if err := c.conn.SendDatagram(want.Append(nil)); err != nil {
		t.Fatal(err)
	}
	d, err := c.conn.ReceiveDatagram(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got, err := protocol.ParseClockReply(d)
	if err != nil || got.ID != 7 || got.T1 != 42 || got.T2 == 0 || got.T3 < got.T2 {
		t.Fatalf("reply %+v, %v", got, err)
	}
}

func TestConnectOrdersBothAndEndsWithTheDiallersProof(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	a, b := ts.signIn(t, "g", "a", ""), ts.signIn(t, "g", "b", "")
	a.connect(1, "b", 0)
	oa, ob := a.order(), b.order()
	want := &pb.Session{
		Id: oa.Id, Attempt: 1, Key: oa.Key, RequestId: 1, Role: pb.Session_DIALLER, GiveUpNs: oa.GiveUpNs, QuietNs: oa.QuietNs,
		Peer:       &pb.PeerInfo{Name: "b", Fingerprint: fingerprintOf(b)},
		Candidates: []*pb.Candidate{{Type: pb.Candidate_SERVER_REFLEXIVE, Address: b.signedIn.Observed}},
	}
	if d := cmp.Diff(want, oa, protocmp.Transform()); d != "" {
		t.Errorf("order of the asker (-want +got):\n%s", d)
	}
	want.RequestId, want.Role = 0, pb.Session_LISTENER
	want.Peer = &pb.PeerInfo{Name: "a", Fingerprint: fingerprintOf(a)}
	want.Candidates[0].Address = a.signedIn.Observed
	if d := cmp.Diff(want, ob, protocmp.Transform()); d != "" {
		t.Errorf("order of the other (-want +got):\n%s", d)
	}
	if len(oa.Id) != 16 || len(oa.Key) != 32 || oa.GiveUpNs < int64(time.Second) {
		t.Errorf("id %x, key of %d bytes, gives up after %v", oa.Id, len(oa.Key), time.Duration(oa.GiveUpNs))
	}
	a.report(&pb.Report{SessionId: oa.Id, Attempt: 1})
	b.report(&pb.Report{SessionId: oa.Id, Attempt: 1})
	ts.await(t, func() bool { return ts.rules.budget.used.Load() == 0 })
}

// await polls for a state of the server that no message announces.
func (ts *testServer) await(t testing.TB, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatal("the server did not reach the state")
		}
		time.Sleep(time.Millisecond)
	}
}

func fingerprintOf(c *rawClient) []byte {
	f := c.id.Fingerprint()
	return f[:]
}

func TestSignInIsRefusedInOneLine(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	ts.signIn(t, "g", "taken", "")
	stranger := startServer(t)
	for name, tc := range map[string]struct {
		in   *pb.SignIn
		want string
	}{
		"expired token":      {&pb.SignIn{Token: ts.token(t, "*", "*", -time.Hour), Group: "g", Name: "a"}, "expired"},
		"other key":          {&pb.SignIn{Token: stranger.token(t, "*", "*", time.Hour), Group: "g", Name: "a"}, "another key"},
		"garbage token":      {&pb.SignIn{Token: "garbage", Group: "g", Name: "a"}, "malformed"},
		"no token":           {&pb.SignIn{Group: "g", Name: "a"}, "malformed"},
		"other group":        {&pb.SignIn{Token: ts.token(t, "h", "*", time.Hour), Group: "g", Name: "a"}, "another group"},
		"other name":         {&pb.SignIn{Token: ts.token(t, "*", "b-*", time.Hour), Group: "g", Name: "a"}, "another name"},
		"name taken":         {&pb.SignIn{Token: ts.token(t, "*", "*", time.Hour), Group: "g", Name: "taken"}, "taken"},
		"empty name":         {&pb.SignIn{Token: ts.token(t, "*", "*", time.Hour), Group: "g"}, "name is empty"},
		"empty group":        {&pb.SignIn{Token: ts.token(t, "*", "*", time.Hour), Name: "a"}, "group is empty"},
		"long name":          {&pb.SignIn{Token: ts.token(t, "*", "*", time.Hour), Group: "g", Name: strings.Repeat("x", 129)}, "limit is 128"},
		"name with newline":  {&pb.SignIn{Token: ts.token(t, "*", "*", time.Hour), Group: "g", Name: "a\nb"}, "cannot be printed"},
		"role with escape":   {&pb.SignIn{Token: ts.token(t, "*", "*", time.Hour), Group: "g", Name: "a", Role: "\x1b[1m"}, "role"},
		"role that is large": {&pb.SignIn{Token: ts.token(t, "*", "*", time.Hour), Group: "g", Name: "a", Role: strings.Repeat("x", 65)}, "role"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := ts.dial(t, newIdentity(t))
			if err != nil {
				t.Fatal(err)
			}
			c.send(&pb.ClientMessage{Body: &pb.ClientMessage_SignIn{SignIn: tc.in}})
			r := c.receive().GetRefused()
			if r.GetRequestId() != 0 || r.GetReason() != pb.Reason_UNAUTHORIZED || !strings.Contains(r.GetDetail(), tc.want) || strings.Contains(r.GetDetail(), "\n") {
				t.Errorf("refused with %v, want a detail with %q", r, tc.want)
			}
			if tok := tc.in.Token; tok != "" && tok != "garbage" && strings.Contains(r.GetDetail(), tok) {
				t.Error("the detail repeats the token")
			}
			c.close()
		})
	}
	if a := ts.signIn(t, "g", "a", ""); a.signedIn == nil {
		t.Error("a legitimate peer was not let in")
	}
}

func TestRefusedClientThatStaysIsClosed(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	c, err := ts.dial(t, newIdentity(t))
	if err != nil {
		t.Fatal(err)
	}
	c.send(&pb.ClientMessage{Body: &pb.ClientMessage_SignIn{SignIn: &pb.SignIn{}}})
	if code := c.closeCode(); code != closeRefused {
		t.Errorf("closed with code %d", code)
	}
}

func TestWrongPinIsNoticedByTheClient(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	_, err := ts.dial(t, newIdentity(t), newIdentity(t).Fingerprint())
	var pin *identity.PinError
	if !errors.As(err, &pin) || pin.Got != ts.id.Fingerprint() {
		t.Fatalf("dialled a server with another key: %v", err)
	}
}

func TestClientWithoutCertificateIsRefused(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	c, err := ts.dial(t, nil)
	if err == nil { // TLS 1.3: the client learns it after its handshake
		<-c.conn.Context().Done()
	}
	ts.await(t, func() bool { return ts.pendingTotal() == 0 })
}

func (ts *testServer) pendingTotal() int {
	ts.pending.mu.Lock()
	defer ts.pending.mu.Unlock()
	return ts.pending.total
}

func TestSameKeyTakesItsPlaceBack(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	id := newIdentity(t)
	old := ts.signInAs(t, id, &pb.SignIn{Group: "g", Name: "a"})
	ts.signInAs(t, id, &pb.SignIn{Group: "g", Name: "a"})
	if code := old.closeCode(); code != closeReplaced {
		t.Errorf("the old connection was closed with code %d", code)
	}
	b := ts.signIn(t, "g", "b", "")
	b.send(&pb.ClientMessage{Body: &pb.ClientMessage_WatchPeers{WatchPeers: &pb.WatchPeers{RequestId: 1}}})
	if p := b.receive().GetPeers(); len(p.GetPeers()) != 2 {
		t.Errorf("peers are %v", p)
	}
}

func TestSilentConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	ts := startServer(t, func(c *Config) { c.Limits.SignInTimeout = 500 * time.Millisecond })
	c, err := ts.dial(t, newIdentity(t))
	if err != nil {
		t.Fatal(err)
	}
	if code := c.closeCode(); code != closeProtocol {
		t.Errorf("closed with code %d", code)
	}
	ts.await(t, func() bool { return ts.pendingTotal() == 0 })
}

func TestProtocolErrorsCloseTheConnection(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	for name, act := range map[string]func(c *rawClient){
		"garbage": func(c *rawClient) { _, _ = c.stream.Write([]byte{3, 0xff, 0xff, 0xff}) },
		"a frame that is too large": func(c *rawClient) {
			_, _ = c.stream.Write(protowire.AppendVarint(nil, protocol.MaxClientMessage+1))
		},
		"request id 0": func(c *rawClient) { c.connect(0, "x", 0) },
		"request id twice": func(c *rawClient) {
			c.connect(1, "x", time.Hour)
			c.connect(1, "y", time.Hour)
		},
		"second sign-in": func(c *rawClient) {
			c.send(&pb.ClientMessage{Body: &pb.ClientMessage_SignIn{SignIn: &pb.SignIn{}}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := ts.signIn(t, "g", "a", "")
			act(c)
			if code := c.closeCode(); code != closeProtocol {
				t.Errorf("closed with code %d", code)
			}
			ts.await(t, func() bool { return ts.groupCount() == 0 })
		})
	}
}

func (ts *testServer) groupCount() int {
	ts.registry.mu.Lock()
	defer ts.registry.mu.Unlock()
	return len(ts.registry.groups)
}

func TestUnknownMessagesAndFieldsAreHarmless(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	c := ts.signIn(t, "g", "a", "")
	unknown := protowire.AppendTag(nil, 4000, protowire.BytesType)
	unknown = protowire.AppendBytes(unknown, []byte("later version"))
	m := &pb.ClientMessage{}
	m.ProtoReflect().SetUnknown(unknown)
	c.send(m)
	c.connect(1, "nobody", 0)
	if r := c.receive().GetRefused(); r.GetRequestId() != 1 || r.GetReason() != pb.Reason_NO_PEER {
		t.Errorf("answer is %v", r)
	}
}

func TestShutdownTellsPeersAndWaitsForSessions(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	a, b := ts.signIn(t, "g", "a", ""), ts.signIn(t, "g", "b", "")
	a.connect(1, "b", 0)
	o := a.order()
	b.order()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- ts.Shutdown(ctx) }()
	if d := a.receive().GetDrain(); d.GetReconnectAfterNs() <= 0 {
		t.Fatalf("drain is %v", d)
	}
	if ts.Ready() {
		t.Error("ready while draining")
	}
	b.receive()
	a.report(&pb.Report{SessionId: o.Id, Attempt: 1})
	if code := a.closeCode(); code != closeDraining {
		t.Errorf("closed with code %d", code)
	}
	if err := <-result; err != nil {
		t.Errorf("shutdown: %v", err)
	}
}

func TestShutdownDoesNotWaitLongerThanItsContext(t *testing.T) {
	t.Parallel()
	ts := startServer(t)
	a, b := ts.signIn(t, "g", "a", ""), ts.signIn(t, "g", "b", "")
	a.connect(1, "b", 0)
	a.order()
	b.order()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := ts.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("shutdown: %v", err)
	}
	if code := b.closeCode(); code != closeDraining {
		t.Errorf("closed with code %d", code)
	}
}
