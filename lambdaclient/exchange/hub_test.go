package exchange

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/bradawl/bradawl/protocol/identity"
)

const testALPN = "exchange-test"

// hub is a collective on loopback: real QUIC connections between producers
// and consumers, without a rendezvous, and with faults at will.
type hub struct {
	t  testing.TB
	id *identity.Identity

	mu    sync.Mutex
	nodes map[string]*node
	// window bounds what a producer sends ahead of a consumer's reading: little,
	// so that a link can break in the middle of a test's data.
	window uint64
	// noLink fails the links of the collective, noConnect those made anew.
	noLink, noConnect func(consumer, producer string) error
	// onRead sees, and may change, what a consumer reads from a link; off is
	// the link's count of bytes before.
	onRead func(l *testLink, off int64, b []byte)
}

type node struct {
	h        *hub
	name     string
	producer bool
	tr       *quic.Transport
	ln       *quic.Listener
	wg       sync.WaitGroup

	mu       sync.Mutex
	joined   bool
	gone     bool
	queue    []linkEvent
	signal   chan struct{}
	expect   map[string]bool // who dials for the collective
	accepted chan link
	conns    []*quic.Conn
}

func newHub(t testing.TB) *hub {
	t.Helper()
	id, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	return &hub{t: t, id: id, nodes: map[string]*node{}, window: 1 << 20}
}

// node makes a peer; the prefix of its name, "producer" or "consumer", is its role.
func (h *hub) node(name string) *node {
	h.t.Helper()
	pc, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		h.t.Fatal(err)
	}
	n := &node{
		h: h, name: name, producer: strings.HasPrefix(name, "producer"), tr: &quic.Transport{Conn: pc},
		signal: make(chan struct{}, 1), expect: map[string]bool{}, accepted: make(chan link, 16),
	}
	n.ln, err = n.tr.Listen(identity.ListenConfig(h.id, testALPN, func(identity.Fingerprint, tls.ConnectionState) error { return nil }), h.quic())
	if err != nil {
		h.t.Fatal(err)
	}
	n.wg.Go(n.listen)
	h.mu.Lock()
	h.nodes[name] = n
	h.mu.Unlock()
	h.t.Cleanup(n.kill)
	return n
}

func (h *hub) quic() *quic.Config {
	return &quic.Config{
		KeepAlivePeriod: time.Second, MaxIdleTimeout: 10 * time.Second, MaxIncomingStreams: 1024,
		InitialStreamReceiveWindow: 1 << 20, MaxStreamReceiveWindow: h.window,
		InitialConnectionReceiveWindow: 2 << 20, MaxConnectionReceiveWindow: 2 * h.window,
	}
}

// kill ends a node as a crash would, except that its peers learn it at once.
func (n *node) kill() {
	n.h.mu.Lock()
	if n.h.nodes[n.name] == n {
		delete(n.h.nodes, n.name)
	}
	n.h.mu.Unlock()
	n.mu.Lock()
	n.gone = true
	conns := n.conns
	n.mu.Unlock()
	for _, c := range conns {
		_ = c.CloseWithError(1, "killed")
	}
	_ = n.ln.Close()
	_ = n.tr.Close()
	_ = n.tr.Conn.Close()
	n.wg.Wait()
}

func (n *node) join(_ context.Context, _ Shuffle) (collective, error) {
	n.h.mu.Lock()
	n.mu.Lock()
	n.joined = true
	n.mu.Unlock()
	var others []*node
	for _, o := range n.h.nodes {
		o.mu.Lock()
		if o.joined && o.producer != n.producer {
			others = append(others, o)
		}
		o.mu.Unlock()
	}
	n.h.mu.Unlock()
	for _, o := range others {
		consumer, producer := n, o
		if n.producer {
			consumer, producer = o, n
		}
		consumer.wg.Go(func() { consumer.pair(producer) })
	}
	return n, nil
}

// pair makes the collective's link between two nodes.
func (n *node) pair(producer *node) {
	n.h.mu.Lock()
	noLink := n.h.noLink
	n.h.mu.Unlock()
	if noLink != nil {
		if err := noLink(n.name, producer.name); err != nil {
			n.push(linkEvent{peer: producer.name, err: err})
			producer.push(linkEvent{peer: n.name, err: err})
			return
		}
	}
	producer.mu.Lock()
	producer.expect[n.name] = true
	producer.mu.Unlock()
	l, err := n.dial(context.Background(), producer)
	if err != nil {
		n.push(linkEvent{peer: producer.name, err: err})
		return
	}
	n.push(linkEvent{peer: producer.name, link: l})
}

func (n *node) dial(ctx context.Context, to *node) (*testLink, error) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conf := identity.DialConfig(n.h.id, n.name, testALPN, n.h.id.Fingerprint())
	qc, err := n.tr.Dial(ctx, to.tr.Conn.LocalAddr(), conf, n.h.quic())
	if err != nil {
		return nil, err
	}
	return n.keep(&testLink{h: n.h, Conn: qc, name: to.name, took: time.Since(start), consumer: true}), nil
}

func (n *node) keep(l *testLink) *testLink {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns = append(n.conns, l.Conn)
	if n.gone {
		_ = l.Conn.CloseWithError(1, "killed")
	}
	return l
}

func (n *node) listen() {
	for {
		qc, err := n.ln.Accept(context.Background())
		if err != nil {
			return
		}
		name := qc.ConnectionState().TLS.ServerName
		l := n.keep(&testLink{h: n.h, Conn: qc, name: name})
		n.mu.Lock()
		group := n.expect[name]
		delete(n.expect, name)
		n.mu.Unlock()
		if group {
			n.push(linkEvent{peer: name, link: l})
		} else {
			n.accepted <- l
		}
	}
}

func (n *node) push(ev linkEvent) {
	n.mu.Lock()
	n.queue = append(n.queue, ev)
	n.mu.Unlock()
	select {
	case n.signal <- struct{}{}:
	default:
	}
}

func (n *node) next(ctx context.Context) (linkEvent, error) {
	for {
		n.mu.Lock()
		if len(n.queue) > 0 {
			ev := n.queue[0]
			n.queue = n.queue[1:]
			n.mu.Unlock()
			return ev, nil
		}
		n.mu.Unlock()
		select {
		case <-n.signal:
		case <-ctx.Done():
			return linkEvent{}, ctx.Err()
		}
	}
}

func (n *node) connect(ctx context.Context, peer string) (link, error) {
	n.h.mu.Lock()
	noConnect, to := n.h.noConnect, n.h.nodes[peer]
	n.h.mu.Unlock()
	if to == nil {
		return nil, errNoPeer
	}
	if noConnect != nil {
		if err := noConnect(n.name, peer); err != nil {
			return nil, err
		}
	}
	l, err := n.dial(ctx, to)
	if err != nil {
		return nil, err
	}
	return l, nil
}

func (n *node) leave() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.joined = false
	return nil
}

func (n *node) accept(ctx context.Context) (link, error) {
	select {
	case l := <-n.accepted:
		return l, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// testLink is one side of a link.
type testLink struct {
	*quic.Conn
	h        *hub
	name     string
	took     time.Duration
	consumer bool

	mu  sync.Mutex
	off int64
}

func (l *testLink) peer() string                   { return l.name }
func (l *testLink) done() <-chan struct{}          { return l.Context().Done() }
func (l *testLink) cause() error                   { return context.Cause(l.Context()) }
func (l *testLink) path() string                   { return "host" }
func (l *testLink) connectDuration() time.Duration { return l.took }

func (l *testLink) close(code uint64, why string) {
	_ = l.CloseWithError(quic.ApplicationErrorCode(code), why)
}

// cut breaks the link without a proper goodbye.
func (l *testLink) cut() { _ = l.CloseWithError(2, "cut") }

func (l *testLink) open(ctx context.Context) (stream, error) {
	s, err := l.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	return &testStream{s, l}, nil
}

func (l *testLink) accept(ctx context.Context) (stream, error) {
	s, err := l.AcceptStream(ctx)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// testStream is a consumer's stream with faults.
type testStream struct {
	*quic.Stream
	l *testLink
}

func (s *testStream) Read(b []byte) (int, error) {
	n, err := s.Stream.Read(b)
	s.l.h.mu.Lock()
	onRead := s.l.h.onRead
	s.l.h.mu.Unlock()
	s.l.mu.Lock()
	off := s.l.off
	s.l.off += int64(n)
	s.l.mu.Unlock()
	if onRead != nil && n > 0 {
		onRead(s.l, off, b[:n])
	}
	return n, err
}

var errNAT = errors.New("no inbound packets") // what a NAT does to a link
