package rendezvous

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/pb"
	"github.com/bradawl/bradawl/protocol/token"
)

// patience bounds each wait of a test for something that must come.
const patience = 20 * time.Second

// testServer is a server on loopback sockets.
type testServer struct {
	*Server
	id     *identity.Identity
	key    ed25519.PrivateKey
	served chan error
	tcp    net.Listener
	client *quic.Config // of the clients that dial
}

func startServer(t testing.TB, change ...func(*Config)) *testServer {
	t.Helper()
	id, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		PacketConn: udp(t), AltPacketConn: udp(t), TCPListener: tcp, Identity: id, Verifier: token.NewVerifier(public),
	}
	for _, f := range change {
		f(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ts := &testServer{Server: s, id: id, key: key, served: make(chan error, 1), tcp: tcp, client: &quic.Config{EnableDatagrams: true}}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { ts.served <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ts.served; err != nil {
			t.Errorf("serve: %v", err)
		}
		ts.served <- nil
	})
	ts.await(t, ts.Ready)
	return ts
}

func udp(t testing.TB) net.PacketConn {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (ts *testServer) token(t testing.TB, group, name string, valid time.Duration) string {
	t.Helper()
	now := time.Now()
	tok, err := token.Mint(ts.key, token.Claims{Group: group, Name: name, IssuedAt: now.Add(-24 * time.Hour), Expires: now.Add(valid)})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// rawClient speaks the control protocol over quic-go, with no SDK in between.
type rawClient struct {
	t         testing.TB
	id        *identity.Identity
	conn      *quic.Conn
	stream    *quic.Stream
	in        *bufio.Reader
	transport *quic.Transport
	socket    net.PacketConn
	signedIn  *pb.SignedIn
}

// dial opens a control connection and its stream; nothing is sent on it yet.
func (ts *testServer) dial(t testing.TB, id *identity.Identity, pins ...identity.Fingerprint) (*rawClient, error) {
	t.Helper()
	if len(pins) == 0 {
		pins = []identity.Fingerprint{ts.id.Fingerprint()}
	}
	c := &rawClient{t: t, id: id, socket: udp(t)}
	c.transport = &quic.Transport{Conn: c.socket}
	t.Cleanup(c.close)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := c.transport.Dial(ctx, ts.Addr(), identity.DialConfig(id, "rendezvous", protocol.ALPNControl, pins...), ts.client)
	if err != nil {
		return c, err
	}
	c.conn = conn
	if c.stream, err = conn.OpenStreamSync(ctx); err != nil {
		return c, err
	}
	c.in = bufio.NewReader(c.stream)
	return c, nil
}

func (c *rawClient) close() {
	if c.conn != nil {
		_ = c.conn.CloseWithError(0, "")
	}
	_ = c.transport.Close()
	_ = c.socket.Close()
}

func newIdentity(t testing.TB) *identity.Identity {
	t.Helper()
	id, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// signIn signs a fresh peer in.
func (ts *testServer) signIn(t testing.TB, group, name, role string) *rawClient {
	t.Helper()
	return ts.signInAs(t, newIdentity(t), &pb.SignIn{Group: group, Name: name, Role: role})
}

func (ts *testServer) signInAs(t testing.TB, id *identity.Identity, in *pb.SignIn) *rawClient {
	t.Helper()
	c, err := ts.dial(t, id)
	if err != nil {
		t.Fatal(err)
	}
	if in.Token == "" {
		in.Token = ts.token(t, "*", "*", time.Hour)
	}
	c.send(&pb.ClientMessage{Body: &pb.ClientMessage_SignIn{SignIn: in}})
	c.signedIn = c.receive().GetSignedIn()
	if c.signedIn == nil {
		t.Fatalf("%s was not signed in", in.Name)
	}
	return c
}

func (c *rawClient) send(m *pb.ClientMessage) {
	c.t.Helper()
	if err := protocol.WriteMessage(c.stream, m); err != nil {
		c.t.Fatal(err)
	}
}

func (c *rawClient) receive() *pb.ServerMessage {
	c.t.Helper()
	m, err := c.tryReceive()
	if err != nil {
		c.t.Fatalf("receive: %v", err)
	}
	return m
}

func (c *rawClient) tryReceive() (*pb.ServerMessage, error) {
	if err := c.stream.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	var m pb.ServerMessage
	return &m, protocol.ReadMessage(c.in, &m, protocol.MaxServerMessage)
}

// order receives an Order with one session.
func (c *rawClient) order() *pb.Session {
	c.t.Helper()
	m := c.receive()
	if n := len(m.GetOrder().GetSessions()); n != 1 {
		c.t.Fatalf("want an order of one session, have %v", m)
	}
	return m.GetOrder().GetSessions()[0]
}

func (c *rawClient) connect(id uint64, peer string, wait time.Duration) {
	c.t.Helper()
	c.send(&pb.ClientMessage{Body: &pb.ClientMessage_Connect{Connect: &pb.Connect{RequestId: id, Peer: peer, WaitNs: int64(wait)}}})
}

func (c *rawClient) report(r *pb.Report) {
	c.t.Helper()
	c.send(&pb.ClientMessage{Body: &pb.ClientMessage_Report{Report: r}})
}

// closeCode waits for the connection to end and returns the server's code, or -1 if it ended otherwise.
func (c *rawClient) closeCode() closeCode {
	c.t.Helper()
	select {
	case <-c.conn.Context().Done():
	case <-time.After(patience):
		c.t.Fatal("the server did not close the connection")
	}
	var app *quic.ApplicationError
	if errors.As(context.Cause(c.conn.Context()), &app) && app.Remote {
		return closeCode(app.ErrorCode)
	}
	return ^closeCode(0)
}
