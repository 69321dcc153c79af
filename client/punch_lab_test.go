package client_test

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/server/rendezvous"
)

func quarter() natlab.Link { return natlab.Link{Delay: 250 * time.Microsecond} }

// spoilt is a NAT at which an early packet takes the port. The way to it is long
// enough that even a busy machine fires both sides before anything arrives.
type spoilt struct{}

func TestPeersBehindPairsOfNATs(t *testing.T) {
	t.Parallel()
	public := "public"
	for _, tc := range []struct {
		name string
		a, b any // natlab.NAT or public
		want protocol.Reason
		path string // a public address may also be known as a host candidate
	}{
		{"port-restricted, port-restricted", natlab.PortRestricted(), natlab.PortRestricted(), "", "server_reflexive"},
		{"without a drop rule", spoilt{}, spoilt{}, "", "server_reflexive"},
		{"address-restricted, port-restricted", natlab.AddressRestricted(), natlab.PortRestricted(), "", "server_reflexive"},
		{"full cone, full cone", natlab.FullCone(), natlab.FullCone(), "", "server_reflexive"},
		{"symmetric, full cone", natlab.Symmetric(), natlab.FullCone(), "", "server_reflexive"},
		{"full cone, symmetric", natlab.FullCone(), natlab.Symmetric(), "", "peer_reflexive"},
		{"symmetric, address-restricted", natlab.Symmetric(), natlab.AddressRestricted(), "", "server_reflexive"},
		{"public, port-restricted", public, natlab.PortRestricted(), "", "server_reflexive"},
		{"symmetric, public", natlab.Symmetric(), public, "", "server_reflexive"},
		{"public, public", public, public, "", "server_reflexive"},
		{"symmetric, symmetric", natlab.Symmetric(), natlab.Symmetric(), protocol.ReasonMappingVaries, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			host := func(name string, nat any) *natlab.Host {
				switch n := nat.(type) {
				case natlab.NAT:
					return w.behind(name, n, quarter())
				case spoilt:
					return w.behind(name, natlab.PortRestrictedNoDrop(), natlab.Link{Delay: 20 * time.Millisecond})
				}
				h, err := w.lab.AddHost(name)
				must(t, err)
				return h
			}
			a := w.client(host("a", tc.a), "a")
			b := w.client(host("b", tc.b), "b")
			echo(t, b)
			ctx := within(t, 15*time.Second)
			start := time.Now()
			conn, err := a.Connect(ctx, "b")
			if got := client.ReasonOf(err); got != tc.want || err != nil && tc.want == "" {
				t.Fatalf("connect: %v after %v, want reason %q", err, time.Since(start), tc.want)
			}
			if tc.want != "" {
				if took := time.Since(start); took > 2*time.Second {
					t.Errorf("the failure took %v", took)
				}
				return
			}
			must(t, conn.Proven(ctx))
			if got := conn.Info().Path; got != tc.path && (got != "host" || tc.b != public) {
				t.Errorf("path is %s, want %s; %+v", got, tc.path, conn.Info())
			}
			roundTrip(t, conn, 50_000)
		})
	}
}

func TestPeersBehindOneNATUseTheirPrivateAddresses(t *testing.T) {
	t.Parallel()
	for _, hairpin := range []bool{false, true} {
		w := newWorld(t)
		nat := natlab.PortRestricted()
		nat.Hairpinning = hairpin
		site := w.site("home", nat)
		ha, err := site.AddHost("a")
		must(t, err)
		hb, err := site.AddHost("b")
		must(t, err)
		a, b := w.client(ha, "a"), w.client(hb, "b")
		echo(t, b)
		ctx := within(t, 10*time.Second)
		conn, err := a.Connect(ctx, "b")
		must(t, err)
		must(t, conn.Proven(ctx))
		if i := conn.Info(); i.Remote.Addr() != hb.Addr() && !hairpin {
			t.Errorf("hairpinning %v: connected to %s, want the host's own address %s", hairpin, i.Remote, hb.Addr())
		}
		roundTrip(t, conn, 10_000)
	}
}

func TestBothAskingAtOnceGetOneConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.client(w.behind("a", natlab.PortRestricted(), quarter()), "a")
	b := w.client(w.behind("b", natlab.PortRestricted(), quarter()), "b")
	ctx := within(t, 20*time.Second)
	for range 10 {
		type result struct {
			conn *client.Conn
			err  error
		}
		got := make(chan result, 1)
		go func() {
			conn, err := b.Connect(ctx, "a")
			got <- result{conn, err}
		}()
		ca, err := a.Connect(ctx, "b")
		must(t, err)
		rb := <-got
		must(t, rb.err)
		if x, y := ca.Info().SessionID, rb.conn.Info().SessionID; x != y {
			t.Logf("two sessions, %s and %s: the requests did not cross", x, y)
			for _, other := range []*client.Client{a, b} {
				conn, err := other.Accept(ctx)
				must(t, err)
				must(t, conn.Close())
			}
		}
		must(t, ca.Proven(ctx))
		must(t, rb.conn.Proven(ctx))
		must(t, ca.Close())
		must(t, rb.conn.Close())
	}
}

func TestConnectAtOneCommonInstant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.client(w.behind("a", natlab.PortRestricted(), natlab.Link{Delay: 20 * time.Millisecond}), "a")
	b := w.client(w.behind("b", natlab.PortRestricted(), natlab.Link{Delay: time.Millisecond}), "b")
	echo(t, b)
	ctx := within(t, 10*time.Second)
	// As the orders come in, a would fire some 19 ms after b. A busy machine may
	// hold up any one attempt, so the best of a few counts.
	best := time.Hour
	for range 5 {
		conn, err := a.Connect(ctx, "b", client.Exact())
		must(t, err)
		must(t, conn.Proven(ctx))
		if i := conn.Info(); i.SkewKnown {
			best = min(best, i.Skew.Abs())
		}
		roundTrip(t, conn, 1000)
		must(t, conn.Close())
	}
	if best > 10*time.Millisecond {
		t.Errorf("the smallest skew of five attempts is %v, want about 0", best)
	}
}

func TestConnectWaitsForAPeerThatIsNotThereYet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.client(w.behind("a", natlab.PortRestricted()), "a")
	ctx := within(t, 10*time.Second)
	if _, err := a.Connect(ctx, "b"); client.ReasonOf(err) != protocol.ReasonNoPeer {
		t.Fatalf("connect to nobody: %v, want no_peer", err)
	}
	got := make(chan error, 1)
	go func() {
		_, err := a.Connect(ctx, "b", client.WaitForPeer(10*time.Second))
		got <- err
	}()
	echo(t, w.client(w.behind("b", natlab.PortRestricted()), "b"))
	must(t, <-got)
}

func TestConnectIsCanceledWithItsContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.client(w.behind("a", natlab.PortRestricted()), "a")
	ctx, cancel := context.WithCancel(within(t, 10*time.Second))
	got := make(chan error, 1)
	go func() {
		_, err := a.Connect(ctx, "nobody", client.WaitForPeer(time.Minute))
		got <- err
	}()
	cancel()
	if err := <-got; client.ReasonOf(err) != protocol.ReasonCanceled {
		t.Fatalf("got %v, want canceled", err)
	}
}

func TestCloseTellsPeersAndLeavesNothingBehind(t *testing.T) {
	w := newWorld(t)
	ha, hb := w.behind("a", natlab.PortRestricted()), w.behind("b", natlab.PortRestricted())
	b := w.client(hb, "b")
	before := goleak.IgnoreCurrent()
	ctx := within(t, 10*time.Second)
	a, err := client.SignIn(ctx, w.config(ha, "a"))
	must(t, err)
	_, err = a.Connect(ctx, "b")
	must(t, err)
	other, err := b.Accept(ctx)
	must(t, err)
	must(t, other.Proven(ctx))
	must(t, a.Close())
	select {
	case <-other.Context().Done():
	case <-time.After(time.Second):
		t.Fatal("the peer does not know a second later")
	}
	if cause := context.Cause(other.Context()); !isErr(cause, client.ErrPeerClosed) {
		t.Errorf("the peer sees %v, want %v", cause, client.ErrPeerClosed)
	}
	if _, err := a.Connect(ctx, "b"); !isErr(err, client.ErrClosed) {
		t.Errorf("connect on a closed client: %v", err)
	}
	must(t, b.Close())
	goleak.VerifyNone(t, before)
}

func TestALostLinkIsNoticed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	site := w.site("a", natlab.PortRestricted())
	ha, err := site.AddHost("a")
	must(t, err)
	quick := func(c *client.Config) { c.KeepAlive = 400 * time.Millisecond }
	a := w.client(ha, "a", quick)
	b := w.client(w.behind("b", natlab.PortRestricted()), "b", quick)
	ctx := within(t, 15*time.Second)
	ca, err := a.Connect(ctx, "b")
	must(t, err)
	cb, err := b.Accept(ctx)
	must(t, err)
	must(t, ca.Proven(ctx))
	must(t, cb.Proven(ctx))
	must(t, site.CutUplink())
	start := time.Now()
	for _, c := range []*client.Conn{ca, cb} {
		select {
		case <-c.Context().Done():
		case <-ctx.Done():
			t.Fatal("the cut was not noticed")
		}
		if cause := context.Cause(c.Context()); !isErr(cause, client.ErrLinkLost) {
			t.Errorf("the link ended with %v, want %v", cause, client.ErrLinkLost)
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("noticed after %v", took)
	}
	must(t, site.HealUplink())
	_, err = a.Connect(ctx, "b") // once it is signed in again
	must(t, err)
}

func TestAPeerThatLeavesAtOnceStillCountsAsASuccess(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	w := newWorld(t, func(c *rendezvous.Config) { c.Registerer = reg })
	b := w.client(w.behind("b", natlab.PortRestricted()), "b")
	echo(t, b)
	ha := w.behind("a", natlab.PortRestricted())
	ctx := within(t, 20*time.Second)
	const n = 10
	for range n {
		a := w.client(ha, "a")
		conn, err := a.Connect(ctx, "b")
		must(t, err)
		must(t, conn.Proven(ctx))
		must(t, a.Close())
	}
	must(t, b.Close())
	w.Stop()
	families, err := reg.Gather()
	must(t, err)
	counts := make(map[string]float64)
	for _, f := range families {
		if f.GetName() != "bradawl_sessions_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "result" {
					counts[l.GetValue()] += m.GetCounter().GetValue()
				}
			}
		}
	}
	if counts["success"] != n || counts["failure"] != 0 {
		t.Errorf("the server counted %v, want %d successes", counts, n)
	}
}
