package client_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/server/rendezvous"
	"github.com/bradawl/bradawl/server/rendezvous/rendezvoustest"
)

func TestMain(m *testing.M) { natlab.Main(m) }

const testGroup = "g"

// world is a lab with a rendezvous on a public host.
type world struct {
	*rendezvoustest.Server
	t   testing.TB
	lab *natlab.Lab
}

func newWorld(t testing.TB, tune ...func(*rendezvous.Config)) *world {
	t.Helper()
	natlab.Require(t)
	lab, err := natlab.New(natlab.Config{})
	must(t, err)
	t.Cleanup(func() { must(t, lab.Close()) })
	return worldIn(t, lab, tune...)
}

// worldIn adds a rendezvous to a lab.
func worldIn(t testing.TB, lab *natlab.Lab, tune ...func(*rendezvous.Config)) *world {
	t.Helper()
	host, err := lab.AddHost("rendezvous")
	must(t, err)
	return &world{Server: rendezvoustest.Start(t, host, tune...), t: t, lab: lab}
}

// behind adds a site with one host.
func (w *world) behind(name string, nat natlab.NAT, link ...natlab.Link) *natlab.Host {
	w.t.Helper()
	h, err := w.site(name, nat, link...).AddHost(name)
	must(w.t, err)
	return h
}

func (w *world) site(name string, nat natlab.NAT, link ...natlab.Link) *natlab.Site {
	w.t.Helper()
	cfg := natlab.SiteConfig{Name: name, NAT: nat}
	if len(link) > 0 {
		cfg.Link = link[0]
	}
	s, err := w.lab.AddSite(cfg)
	must(w.t, err)
	return s
}

func (w *world) config(h *natlab.Host, name string) client.Config {
	w.t.Helper()
	pc, err := h.ListenUDP(netip.AddrPort{})
	must(w.t, err)
	return client.Config{URL: w.URL(), Group: testGroup, Name: name, PacketConn: pc, DialTCP: h.DialContext,
		ListenPacket: func() (net.PacketConn, error) { return h.ListenUDP(netip.AddrPort{}) }}
}

// client signs a peer in and waits until its NAT is known. It is closed with the test.
func (w *world) client(h *natlab.Host, name string, change ...func(*client.Config)) *client.Client {
	w.t.Helper()
	cfg := w.config(h, name)
	for _, f := range change {
		f(&cfg)
	}
	known := make(chan struct{})
	var once sync.Once
	next := cfg.OnEvent
	cfg.OnEvent = func(e client.Event) {
		if e.Kind == client.EventNAT {
			once.Do(func() { close(known) })
		}
		if next != nil {
			next(e)
		}
	}
	ctx := within(w.t, 10*time.Second)
	c, err := client.SignIn(ctx, cfg)
	if err != nil {
		w.t.Fatalf("sign in as %s: %v", name, err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	select {
	case <-known:
	case <-ctx.Done():
		w.t.Fatalf("%s does not know its NAT", name)
	}
	return c
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeoutCause(context.Background(), d, errors.New("the test's time is over"))
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// echo answers every stream of every connection that c accepts.
func echo(t testing.TB, c *client.Client) {
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); _ = c.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			conn, err := c.Accept(ctx)
			if err != nil {
				return
			}
			wg.Go(func() { echoStreams(conn) })
		}
	})
}

func echoStreams(conn *client.Conn) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		s, err := conn.AcceptStream(context.Background()) // ends with the connection
		if err != nil {
			return
		}
		wg.Go(func() {
			_, _ = io.Copy(s, s)
			_ = s.Close()
		})
	}
}

// roundTrip sends n bytes to an echo and compares what comes back.
func roundTrip(t testing.TB, conn *client.Conn, n int) {
	t.Helper()
	s, err := conn.OpenStream(within(t, 5*time.Second))
	must(t, err)
	must(t, s.SetDeadline(time.Now().Add(10*time.Second+time.Duration(n>>20)*time.Second)))
	out := make([]byte, n)
	_, _ = rand.Read(out)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		_, _ = s.Write(out)
		_ = s.Close()
	})
	in, err := io.ReadAll(s)
	must(t, err)
	if string(in) != string(out) {
		t.Fatalf("sent %d bytes, got %d back that differ", len(out), len(in))
	}
}
