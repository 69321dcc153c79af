package client_test

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/protocol"
)

var (
	matrixAttempts = flag.Int("matrix.attempts", 1, "attempts of TestMatrixOfNATs for each pair of NATs, with and without loss")
	matrixPairs    = flag.String("matrix.pairs", "", "only pairs \"a → b\" that match this regular expression")
)

// matrixDelay is one way between a site and the core. It is well above what a busy machine delays one of the two peers, so that
// what the counters show is the protocol's doing.
const matrixDelay = 5 * time.Millisecond

// matrixAgain is how often a pair is tried again, to tell a packet at a closed NAT that is a busy machine's doing from the
// protocol's.
const matrixAgain = 4

// matrixKind is a kind of NAT, or none.
type matrixKind struct {
	name   string
	nat    natlab.NAT
	public bool
}

func matrixKinds() []matrixKind {
	return []matrixKind{
		{name: "full cone", nat: natlab.FullCone()},
		{name: "address-restricted", nat: natlab.AddressRestricted()},
		{name: "port-restricted", nat: natlab.PortRestricted()},
		{name: "port-restricted, no drop", nat: natlab.PortRestrictedNoDrop()},
		{name: "symmetric", nat: natlab.Symmetric()},
		{name: "UDP blocked", nat: natlab.UDPBlocked()},
		{name: "public", public: true},
	}
}

func (k matrixKind) symmetric() bool { return k.nat.Mapping == natlab.AddressAndPortDependentMapping }

// guessing tells whether ports must be guessed between the two.
func (k matrixKind) guessing(o matrixKind) bool {
	filters := func(k matrixKind) bool {
		return !k.public && !k.symmetric() && k.nat.Filtering == natlab.AddressAndPortDependentFiltering
	}
	return k.symmetric() && filters(o) || o.symmetric() && filters(k)
}

// expected is the reason for which the pair cannot connect, as the one who asks sees it; empty: it can (RFC 4787).
func (k matrixKind) expected(o matrixKind) protocol.Reason {
	switch {
	case k.nat.UDPBlocked:
		return protocol.ReasonUDPBlocked // the sign-in fails
	case o.nat.UDPBlocked:
		return protocol.ReasonNoPeer // it is not signed in
	case k.symmetric() && o.symmetric():
		return protocol.ReasonMappingVaries
	}
	return protocol.ReasonOK
}

// TestMatrixOfNATs tries every pair of NATs, both ways round, without loss and with 5 % of it each way at both sites. Each
// attempt is by a socket that no NAT has seen.
func TestMatrixOfNATs(t *testing.T) {
	t.Parallel()
	m := &matrix{cells: make(map[string]*matrixCell)}
	t.Run("of", func(t *testing.T) {
		for i, a := range matrixKinds() {
			for _, loss := range []float64{0, 0.05} {
				t.Run(fmt.Sprintf("%s, loss %v", a.name, loss), func(t *testing.T) {
					t.Parallel()
					m.row(t, i, a, loss)
				})
			}
		}
	})
	t.Logf("%d attempts each, %v one way between a site and the core:\n%s", *matrixAttempts, matrixDelay, m.table())
}

type matrix struct {
	mu    sync.Mutex
	cells map[string]*matrixCell
}

// matrixCell is what became of one pair.
type matrixCell struct {
	order             int
	name              string
	loss              float64
	want              protocol.Reason
	n, good           int
	took              []time.Duration
	retried           int
	strategies        map[string]int
	reasons           map[protocol.Reason]int
	early             uint64 // packets at closed NATs
	clean             int    // attempts without any
	guessing, blocked bool
	opener            bool // one side has to send to where the other cannot be, to open its own NAT
}

// matrixSite is where a peer lives.
type matrixSite struct {
	host *natlab.Host
	site *natlab.Site // nil: public
	port atomic.Uint32
}

func newMatrixSite(t *testing.T, w *world, name string, k matrixKind, loss float64) *matrixSite {
	t.Helper()
	s := &matrixSite{}
	s.port.Store(10000)
	var err error
	if k.public {
		s.host, err = w.lab.AddHost(name)
	} else {
		s.site = w.site(name, k.nat, natlab.Link{Delay: matrixDelay, Loss: loss})
		s.host, err = s.site.AddHost(name)
	}
	must(t, err)
	return s
}

// config is that of a peer on a port that no peer here has had, and that no other socket gets.
func (s *matrixSite) config(t *testing.T, w *world, name string) client.Config {
	t.Helper()
	cfg := w.config(s.host, name)
	_ = cfg.PacketConn.Close()
	pc, err := s.host.ListenUDP(netip.AddrPortFrom(netip.Addr{}, uint16(s.port.Add(1))))
	must(t, err)
	cfg.PacketConn = pc
	return cfg
}

func (s *matrixSite) unsolicited(t *testing.T) uint64 {
	t.Helper()
	if s.site == nil {
		return 0
	}
	c, err := s.site.Counters()
	must(t, err)
	return c.UnsolicitedPackets
}

// row tries one kind against all.
func (m *matrix) row(t *testing.T, i int, a matrixKind, loss float64) {
	w := newWideWorld(t)
	home := newMatrixSite(t, w, "a", a, loss)
	only, err := regexp.Compile(*matrixPairs)
	must(t, err)
	for j, b := range matrixKinds() {
		restricted := func(k matrixKind) bool { return !k.public && k.nat.Filtering != natlab.EndpointIndependentFiltering }
		cell := &matrixCell{opener: a.symmetric() && restricted(b) || b.symmetric() && restricted(a), order: 100*i + j, name: a.name + " → " + b.name, loss: loss, want: a.expected(b), guessing: a.guessing(b),
			blocked: a.nat.UDPBlocked || b.nat.UDPBlocked, strategies: make(map[string]int), reasons: make(map[protocol.Reason]int)}
		if !only.MatchString(cell.name) {
			continue
		}
		m.mu.Lock()
		m.cells[fmt.Sprint(cell.name, loss)] = cell
		m.mu.Unlock()
		away := newMatrixSite(t, w, fmt.Sprint("b", j), b, loss)
		name := fmt.Sprint("b", j)
		var other *client.Client
		if !cell.blocked {
			other = signMatrix(t, w, away, name)
			go acceptAll(other)
		}
		n := *matrixAttempts
		if cell.blocked {
			n = min(n, 10) // it takes a second, and chance has no part in it
		}
		for k := range n {
			cell.attempt(t, w, home, away, fmt.Sprintf("a%d-%d", j, k), name)
		}
		for k := range matrixAgain {
			if cell.clean > 0 || cell.opener || loss > 0 {
				break
			}
			again := fmt.Sprintf("%s-again-%d", name, k)
			if other != nil { // a NAT without a drop rule has given this one's mapping away
				must(t, other.Close())
				other = signMatrix(t, w, away, again)
				go acceptAll(other)
			}
			cell.attempt(t, w, home, away, fmt.Sprintf("a%d-again-%d", j, k), again)
		}
		if other != nil {
			must(t, other.Close())
		}
		cell.check(t)
	}
}

// acceptAll takes whatever comes in until the client is closed.
func acceptAll(c *client.Client) {
	for {
		if _, err := c.Accept(context.Background()); err != nil {
			return
		}
	}
}

// signMatrix signs a peer in, and waits until all of its NAT is known to the rendezvous.
func signMatrix(t *testing.T, w *world, s *matrixSite, name string) *client.Client {
	t.Helper()
	known := make(chan struct{})
	var once sync.Once
	cfg := s.config(t, w, name)
	cfg.OnEvent = func(e client.Event) {
		if e.Kind == client.EventFiltering {
			once.Do(func() { close(known) })
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := client.SignIn(ctx, cfg)
	must(t, err)
	select {
	case <-known:
	case <-ctx.Done():
		t.Fatalf("%s does not know its NAT", name)
	}
	_, err = c.WaitPeers(ctx, 1, "") // messages come in order: the rendezvous knows it, too
	must(t, err)
	return c
}

func (c *matrixCell) attempt(t *testing.T, w *world, home, away *matrixSite, name, peer string) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c.n++
	if c.want == protocol.ReasonUDPBlocked {
		c.clean++
		start := time.Now()
		_, err := client.SignIn(ctx, home.config(t, w, name))
		c.note(t, time.Since(start), err)
		return
	}
	a := signMatrix(t, w, home, name)
	defer func() { must(t, a.Close()) }()
	before := home.unsolicited(t) + away.unsolicited(t)
	start := time.Now()
	conn, err := a.Connect(ctx, peer)
	if err == nil {
		err = conn.Proven(ctx)
	}
	c.note(t, time.Since(start), err)
	early := home.unsolicited(t) + away.unsolicited(t) - before
	if c.early += early; early == 0 {
		c.clean++
	}
	if err != nil {
		return
	}
	i := conn.Info()
	c.strategies[i.Strategy]++
	if i.Attempts > 1 {
		c.retried++
	}
	_ = conn.Close()
}

func (c *matrixCell) note(t *testing.T, took time.Duration, err error) {
	t.Helper()
	if err != nil && client.ReasonOf(err) != c.want {
		t.Logf("%s, loss %v, attempt %d, after %v: %v", c.name, c.loss, c.n, took, err)
	}
	c.took = append(c.took, took)
	if err == nil {
		c.good++
		return
	}
	c.reasons[client.ReasonOf(err)]++
}

// check holds the cell against what RFC 4787 allows.
func (c *matrixCell) check(t *testing.T) {
	t.Helper()
	least := c.n
	if c.guessing {
		least = (c.n*99 + 99) / 100
	}
	switch {
	case c.want != protocol.ReasonOK && c.reasons[c.want] != c.n:
		t.Errorf("%s, loss %v: %d of %d connected, failures %v; want %s", c.name, c.loss, c.good, c.n, c.reasons, c.want)
	case c.want == protocol.ReasonOK && c.good < least:
		t.Errorf("%s, loss %v: %d of %d connected, failures %v", c.name, c.loss, c.good, c.n, c.reasons)
	}
	// A busy machine may hold one side up for longer than the way takes, but not every time.
	if !c.opener && c.loss == 0 && c.clean == 0 {
		t.Errorf("%s: packets came to a closed NAT in each of %d attempts, %d in all", c.name, c.n, c.early)
	}
}

// table is the matrix for docs/benchmarks.md.
func (m *matrix) table() string {
	var b strings.Builder
	b.WriteString("| a → b | loss | success | p50 | max | failed with | tried again | by | early |\n|---|--:|--:|--:|--:|---|--:|---|--:|\n")
	cells := make([]*matrixCell, 0, len(m.cells))
	for _, c := range m.cells {
		cells = append(cells, c)
	}
	slices.SortFunc(cells, func(x, y *matrixCell) int {
		return cmp.Or(cmp.Compare(x.loss, y.loss), cmp.Compare(x.order, y.order))
	})
	for _, c := range cells {
		slices.Sort(c.took)
		var p50, most time.Duration
		if len(c.took) > 0 {
			p50, most = c.took[len(c.took)/2], c.took[len(c.took)-1]
		}
		fmt.Fprintf(&b, "| %s | %.0f %% | %d/%d | %d ms | %d ms | %s | %d | %s | %d |\n", c.name, 100*c.loss, c.good, c.n,
			p50.Milliseconds(), most.Milliseconds(), counted(c.reasons), c.retried, counted(c.strategies), c.early)
	}
	return b.String()
}

// counted lists words with their numbers, the number left out where there is one word only.
func counted[K ~string](of map[K]int) string {
	var out []string
	for k, n := range of {
		if len(of) == 1 {
			return string(k)
		}
		out = append(out, fmt.Sprintf("%s %d", string(k), n))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}
