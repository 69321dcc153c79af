package exchange

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/token"
	"github.com/bradawl/bradawl/server/rendezvous"
)

// world is a shuffle in a lab: a rendezvous on a public host, every producer
// and consumer behind a NAT of its own. S3 is reached around the NATs, so it
// is there also for a site whose uplink is cut.
type world struct {
	*fixture
	lab *natlab.Lab
	url string
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t *testing.T, mode Mode, producers, consumers int) *world {
	t.Helper()
	natlab.Require(t)
	startLab(t)
	check(t)
	f := &fixture{t: t, mode: mode, shuffle: Shuffle{Job: "nat", Producers: producers, Consumers: consumers, ProducerRole: "map", ConsumerRole: "reduce"}}
	f.store = store(t)
	lab, err := natlab.New(natlab.Config{})
	must(t, err)
	t.Cleanup(func() { must(t, lab.Close()) })
	host, err := lab.AddHost("rendezvous")
	must(t, err)
	public, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	id, err := identity.New()
	must(t, err)
	udp, err := host.ListenUDP(netip.AddrPortFrom(host.Addr(), protocol.DefaultPort))
	must(t, err)
	alt, err := host.ListenUDP(netip.AddrPortFrom(host.Addr(), protocol.DefaultPort+1))
	must(t, err)
	tcp, err := host.Listen("tcp", net.JoinHostPort(host.Addr().String(), strconv.Itoa(protocol.DefaultPort)))
	must(t, err)
	srv, err := rendezvous.New(rendezvous.Config{PacketConn: udp, AltPacketConn: alt, TCPListener: tcp, Identity: id, Verifier: token.NewVerifier(public)})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	tok, err := token.Mint(key, token.Claims{Group: "*", Name: "*", Expires: time.Now().Add(time.Hour)})
	must(t, err)
	u := protocol.URL{Token: tok, Host: netip.AddrPortFrom(host.Addr(), protocol.DefaultPort).String(), Pins: []identity.Fingerprint{id.Fingerprint()}}
	return &world{fixture: f, lab: lab, url: u.Secret()}
}

// peer signs in from behind a NAT of its own.
func (w *world) peer(role string, index, attempt int, nat natlab.NAT) (*client.Client, *natlab.Site) {
	w.t.Helper()
	name := fmt.Sprintf("%s-%d-%d", role, index, attempt)
	site, err := w.lab.AddSite(natlab.SiteConfig{Name: name, NAT: nat})
	must(w.t, err)
	host, err := site.AddHost(name)
	must(w.t, err)
	pc, err := host.ListenUDP(netip.AddrPort{})
	must(w.t, err)
	known := make(chan struct{})
	var once sync.Once
	c, err := client.SignIn(within(w.t), client.Config{URL: w.url, Group: "g", Name: name, Role: role, PacketConn: pc,
		DialTCP: host.DialContext, KeepAlive: 200 * time.Millisecond, MaxStreamWindow: 1 << 20, MaxConnWindow: 2 << 20,
		OnEvent: func(e client.Event) {
			if e.Kind == client.EventNAT {
				once.Do(func() { close(known) })
			}
		}})
	must(w.t, err)
	w.t.Cleanup(func() { _ = c.Close() })
	<-known // so that roles and candidates are the same in every run
	return c, site
}

func (w *world) mapper(index, attempt int, nat natlab.NAT) (*Producer, *client.Client, *natlab.Site) {
	w.t.Helper()
	c, site := w.peer("map", index, attempt, nat)
	return w.producer(index, attempt, func(cfg *ProducerConfig) {
		cfg.Network = Over(c)
		cfg.Policy = Policy{TimeToSync: Never, TimeToLive: patience}
	}), c, site
}

func (w *world) reducer(index, attempt int, nat natlab.NAT) *Consumer {
	w.t.Helper()
	c, _ := w.peer("reduce", index, attempt, nat)
	return w.consumer(index, attempt, func(cfg *ConsumerConfig) { cfg.Network = Over(c) })
}

func TestBehindNATsEverythingGoesDirect(t *testing.T) {
	const n = 2
	w := newWorld(t, Auto, n, n)
	var ps []*Producer
	var cs []*Consumer
	for i := range n {
		p, _, _ := w.mapper(i, 0, natlab.PortRestricted())
		ps = append(ps, p)
		cs = append(cs, w.reducer(i, 0, natlab.PortRestricted()))
	}
	for i, p := range ps {
		fill(t, p, bytesOf(300_000, fmt.Sprint(i, 0)), bytesOf(2_000_000, fmt.Sprint(i, 1)))
		finish(t, p)
	}
	for j, c := range cs {
		for i := range ps {
			size := []int{300_000, 2_000_000}[j]
			if src := mustRead(t, c, i, bytesOf(size, fmt.Sprint(i, j))); src.Path != PathDirect {
				t.Errorf("read from %v", src)
			}
		}
		mustAck(t, c)
	}
	for _, p := range ps {
		r := wait(t, p)
		if r.Acked != n || r.Sync != SyncNone || len(r.Links) != n {
			t.Errorf("report %+v", r)
		}
		for _, l := range r.Links {
			if l.Failure != "" || l.Path == "" || l.Connect <= 0 {
				t.Errorf("link %+v", l)
			}
		}
	}
}

func TestPairThatCannotPunchGoesByS3(t *testing.T) {
	w := newWorld(t, Auto, 2, 2)
	nats := []natlab.NAT{natlab.Symmetric(), natlab.PortRestricted()}
	var ps []*Producer
	var cs []*Consumer
	for i, nat := range nats {
		p, _, _ := w.mapper(i, 0, nat)
		ps = append(ps, p)
		cs = append(cs, w.reducer(i, 0, nat))
	}
	for i, p := range ps {
		fill(t, p, bytesOf(300_000, fmt.Sprint(i, 0)), bytesOf(300_000, fmt.Sprint(i, 1)))
		finish(t, p)
	}
	for j, c := range cs {
		for i := range ps {
			src := mustRead(t, c, i, bytesOf(300_000, fmt.Sprint(i, j)))
			if i == j && (src.Path == PathS3) != (i == 0) { // the mixed pairs may do what they can
				t.Errorf("read from %v", src)
			}
		}
		mustAck(t, c)
	}
	for i, p := range ps {
		if r := wait(t, p); i == 0 && r.Sync != SyncLink {
			t.Errorf("report %+v", r)
		}
	}
}

func TestUplinkThatIsCutInMidRead(t *testing.T) {
	w := newWorld(t, Auto, 1, 1)
	p, _, site := w.mapper(0, 0, natlab.PortRestricted())
	c := w.reducer(0, 0, natlab.PortRestricted())
	data := bytesOf(6<<20, "x") // more than the windows take
	fill(t, p, data)
	finish(t, p)
	r := open(t, c, 0)
	got := make([]byte, 1<<20)
	if _, err := io.ReadFull(r, got); err != nil {
		t.Fatal(err)
	}
	must(t, site.CutUplink())
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(append(got, rest...), data) {
		t.Fatalf("%d bytes of %d, error %v", len(got)+len(rest), len(data), err)
	}
	part := c.Report().Partitions[0]
	if part.Source.Path != PathS3 || part.Direct == 0 || part.Direct+part.S3 != int64(len(data)) {
		t.Errorf("partition report %+v", part)
	}
	if pr := p.Report(); pr.Sync != SyncLink {
		t.Errorf("report %+v", pr)
	}
}

func TestMapperThatDiesIsLostAndItsNextAttemptPickedUp(t *testing.T) {
	w := newWorld(t, Direct, 1, 1)
	p, peer, _ := w.mapper(0, 0, natlab.PortRestricted())
	c := w.reducer(0, 0, natlab.PortRestricted())
	data := bytesOf(6<<20, "x")
	fill(t, p, data)
	finish(t, p)
	r := open(t, c, 0)
	got := make([]byte, 1<<20)
	if _, err := io.ReadFull(r, got); err != nil {
		t.Fatal(err)
	}
	must(t, peer.Close())
	_, err := io.ReadAll(r)
	wantLost(t, err, 0)
	p1, _, _ := w.mapper(0, 1, natlab.PortRestricted())
	fill(t, p1, data)
	finish(t, p1)
	until(t, func() bool { return len(c.trackers[0].snapshot().links) > 0 })
	if src := mustRead(t, c, 0, data); src.Attempt != 1 {
		t.Errorf("read from %v", src)
	}
	mustAck(t, c)
	wait(t, p1)
}
