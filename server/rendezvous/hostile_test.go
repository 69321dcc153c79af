package rendezvous

import (
	"bufio"
	"bytes"
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/quic-go/quic-go"
	"google.golang.org/protobuf/proto"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/pb"
)

// initial records the first packet of a handshake.
func initial(t testing.TB) []byte {
	t.Helper()
	sink, from := udp(t), udp(t)
	defer func() { _ = sink.Close() }()
	ctx, cancel := context.WithCancel(context.Background())
	tr := &quic.Transport{Conn: from}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = tr.Dial(ctx, sink.LocalAddr(), identity.DialConfig(newIdentity(t), "x", protocol.ALPNControl, identity.Fingerprint{1}), nil)
	}()
	buf := make([]byte, 2000)
	n, _, err := sink.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	<-done
	_ = tr.Close()
	_ = from.Close()
	return buf[:n]
}

func TestGarbageLeavesNoStateAndPeersStillConnect(t *testing.T) {
	t.Parallel()
	ts := startServer(t, func(c *Config) { c.Limits.MaxPending = 64 })
	const seed = 20261123
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	handshake := initial(t)
	packet := func() []byte {
		switch random.IntN(7) {
		case 0: // anything
			return noise(random.IntN(1400))
		case 1: // looks like STUN
			b := noise(20 + random.IntN(200))
			copy(b, []byte{0, 1, 0, byte(len(b) - 20), 0x21, 0x12, 0xa4, 0x42})
			return b
		case 2: // a truncated request
			b := protocol.AppendBindingRequest(nil, [12]byte(noise(12)))
			return b[:random.IntN(len(b))]
		case 3: // looks like the first packet of QUIC
			b := noise(1200)
			copy(b, []byte{0xc3, 0, 0, 0, 1, 8})
			return b
		case 4: // a truncated handshake
			return handshake[:random.IntN(len(handshake))]
		case 5: // a handshake with some bits flipped
			b := bytes.Clone(handshake)
			for range 1 + random.IntN(4) {
				b[random.IntN(len(b))] ^= 1 << random.IntN(8)
			}
			return b
		default: // a replayed one
			return handshake
		}
	}
	attacker := udp(t)
	defer func() { _ = attacker.Close() }()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for sent := 0; ; sent++ {
			select {
			case <-stop:
				if sent > 3000 {
					return
				}
			default:
			}
			to := ts.Addr()
			if sent%5 == 0 {
				to = ts.cfg.AltPacketConn.LocalAddr()
			}
			if _, err := attacker.WriteTo(packet(), to); err != nil {
				return
			}
			if sent%32 == 31 { // as fast as the server reads, or the kernel would drop the peers' packets too
				time.Sleep(time.Millisecond)
			}
		}
	}()
	for range 5 {
		a, b := ts.signIn(t, "g", "a", ""), ts.signIn(t, "g", "b", "")
		a.connect(1, "b", 0)
		o := a.order()
		b.order()
		a.report(&pb.Report{SessionId: o.Id, Attempt: 1})
		b.report(&pb.Report{SessionId: o.Id, Attempt: 1})
		a.close()
		b.close()
		ts.await(t, func() bool { return ts.groupCount() == 0 })
	}
	close(stop)
	<-stopped
	ts.await(t, func() bool { return ts.pendingTotal() == 0 })
	if n := ts.stun.rates.size(); n > 1 {
		t.Errorf("%d sources remembered, there was one", n)
	}
}

func TestNewConnectionsAreAskedToProveTheirSourceUnderLoad(t *testing.T) {
	t.Parallel()
	ts := startServer(t, func(c *Config) { c.Limits.HandshakesPerSecond = 1 })
	for _, name := range []string{"a", "b", "c"} {
		ts.signIn(t, "g", name, "")
	}
	if n := testutil.ToFloat64(ts.metrics.retries); n < 1 {
		t.Errorf("%v retries", n)
	}
}

func TestConnectionsThatDoNotSignInAreBounded(t *testing.T) {
	t.Parallel()
	ts := startServer(t, func(c *Config) { c.Limits.MaxPendingPerSource = 3 })
	var silent []*rawClient
	for range 3 {
		c, err := ts.dial(t, newIdentity(t))
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, c)
	}
	if _, err := ts.dial(t, newIdentity(t)); err == nil {
		t.Error("a connection above the bound was let in")
	}
	if n := testutil.ToFloat64(ts.metrics.drops.WithLabelValues(dropPending)); n < 1 {
		t.Errorf("%v dropped", n)
	}
	for _, c := range silent {
		c.close()
	}
	ts.await(t, func() bool { return ts.pendingTotal() == 0 })
	ts.signIn(t, "g", "a", "")
}

func TestPeerThatDoesNotReadIsDropped(t *testing.T) {
	t.Parallel()
	ts := startServer(t, func(c *Config) { c.Limits.OutboxBytes = 16 << 10 })
	ts.client = &quic.Config{InitialStreamReceiveWindow: 1 << 10, MaxStreamReceiveWindow: 1 << 10, EnableDatagrams: true}
	c := ts.signIn(t, "g", "a", "")
	nobody := strings.Repeat("n", protocol.MaxNameLen)
	m := func(id uint64) *pb.ClientMessage {
		return &pb.ClientMessage{Body: &pb.ClientMessage_Connect{Connect: &pb.Connect{RequestId: id, Peer: nobody}}}
	}
	for id := uint64(1); id <= 1000; id++ {
		if protocol.WriteMessage(c.stream, m(id)) != nil {
			break // dropped already
		}
	}
	if code := c.closeCode(); code != closeSlow {
		t.Errorf("closed with code %d", code)
	}
	ts.await(t, func() bool { return ts.groupCount() == 0 })
}

func TestPeersAndGroupsAreBounded(t *testing.T) {
	t.Parallel()
	ts := startServer(t, func(c *Config) {
		c.Limits.MaxPeers, c.Limits.MaxPeersPerGroup, c.Limits.MaxGroups = 3, 2, 2
	})
	ts.signIn(t, "g", "a", "")
	ts.signIn(t, "g", "b", "")
	refuse := func(group, name string) {
		t.Helper()
		c, err := ts.dial(t, newIdentity(t))
		if err != nil {
			t.Fatal(err)
		}
		c.send(&pb.ClientMessage{Body: &pb.ClientMessage_SignIn{SignIn: &pb.SignIn{Token: ts.token(t, "*", "*", time.Hour), Group: group, Name: name}}})
		if r := c.receive().GetRefused(); r.GetReason() != pb.Reason_LIMITED || r.GetRetryAfterNs() <= 0 {
			t.Errorf("%s in %s: %v", name, group, r)
		}
		c.close()
	}
	refuse("g", "c")
	ts.signIn(t, "h", "a", "")
	refuse("h", "b")
	refuse("i", "a")
}

// series lists the names and labels of all series, without their values.
func series(t testing.TB, g prometheus.Gatherer) map[string]bool {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var b strings.Builder
			b.WriteString(f.GetName())
			for _, l := range m.GetLabel() {
				b.WriteString("," + l.GetName() + "=" + l.GetValue())
			}
			out[b.String()] = true
		}
	}
	return out
}

func TestClientsCannotMakeSeries(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	ts := startServer(t, func(c *Config) { c.Registerer = reg })
	before := series(t, reg)
	a := ts.signInAs(t, newIdentity(t), &pb.SignIn{Group: "g", Name: "a", Role: "odd role", Agent: strings.Repeat("x", 100)})
	b := ts.signIn(t, "g", "b", "")
	a.send(&pb.ClientMessage{Body: &pb.ClientMessage_NatReport{NatReport: &pb.NatReport{Mapping: 99}}})
	for i, r := range []*pb.Report{
		{Reason: 77}, {Reason: -1}, {Path: 99, HandshakeDoneNs: -1}, {Reason: pb.Reason_UNAUTHORIZED}, {Reason: pb.Reason_SERVER_UNREACHABLE},
	} {
		a.connect(uint64(i+1), "b", 0)
		o := a.order()
		r.SessionId, r.Attempt = o.Id, 1
		a.report(r)
		b.report(proto.Clone(r).(*pb.Report))
		if r.Reason == pb.Reason_UNAUTHORIZED || r.Reason == pb.Reason_SERVER_UNREACHABLE {
			a.order() // it is retried
			a.send(&pb.ClientMessage{Body: &pb.ClientMessage_Cancel{Cancel: &pb.Cancel{RequestId: uint64(i + 1)}}})
		} else if i < 2 {
			a.receive()
		}
	}
	ts.await(t, func() bool { return ts.rules.budget.used.Load() == 0 })
	for s := range series(t, reg) {
		if !before[s] {
			t.Errorf("new series %s", s)
		}
	}
	if len(before) > 600 {
		t.Errorf("%d series", len(before))
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("names: %v, %v", problems, err)
	}
}

func FuzzClientMessages(f *testing.F) {
	seed := func(ms ...*pb.ClientMessage) {
		var b bytes.Buffer
		for _, m := range ms {
			if err := protocol.WriteMessage(&b, m); err != nil {
				f.Fatal(err)
			}
		}
		f.Add(b.Bytes())
	}
	seed(&pb.ClientMessage{Body: &pb.ClientMessage_Connect{Connect: &pb.Connect{RequestId: 1, Peer: "b"}}},
		&pb.ClientMessage{Body: &pb.ClientMessage_Cancel{Cancel: &pb.Cancel{RequestId: 1}}})
	seed(&pb.ClientMessage{Body: &pb.ClientMessage_Join{Join: mesh(1, 2)}},
		&pb.ClientMessage{Body: &pb.ClientMessage_Leave{Leave: &pb.Leave{RequestId: 1}}})
	seed(&pb.ClientMessage{Body: &pb.ClientMessage_WatchPeers{WatchPeers: &pb.WatchPeers{RequestId: 1, Min: 9}}},
		&pb.ClientMessage{Body: &pb.ClientMessage_Report{Report: &pb.Report{SessionId: make([]byte, 16)}}},
		&pb.ClientMessage{Body: &pb.ClientMessage_NatReport{NatReport: &pb.NatReport{Mapping: 4}}})
	f.Fuzz(func(t *testing.T, b []byte) {
		synctest.Test(t, func(t *testing.T) {
			l := newGroupLab(t)
			stop := l.start()
			a, other := l.enter("a", "x"), l.enter("b", "y")
			in := bufio.NewReader(bytes.NewReader(b))
			for {
				var m pb.ClientMessage
				if protocol.ReadMessage(in, &m, protocol.MaxClientMessage) != nil {
					break
				}
				a.handle(&m)
				l.checkSessions()
			}
			for _, p := range []*peer{a, other} {
				for m := p.next(); m != nil; m = p.next() {
					if n := protocolFrame(t, m); n > protocol.MaxServerMessage {
						t.Errorf("a message of %d bytes", n)
					}
				}
			}
			a.leave()
			other.leave()
			synctest.Wait()
			l.clean()
			stop()
		})
	})
}
