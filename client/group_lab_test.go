package client_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/protocol"
)

// collect takes n links off g and returns the connections by the peer's name.
func collect(t testing.TB, g *client.Group, n int) map[string]*client.Conn {
	t.Helper()
	ctx := within(t, 20*time.Second)
	out := make(map[string]*client.Conn)
	for range n {
		l, err := g.Next(ctx)
		must(t, err)
		must(t, l.Err)
		must(t, l.Conn.Proven(ctx))
		if out[l.Peer.Name] != nil {
			t.Errorf("a second link to %s", l.Peer.Name)
		}
		out[l.Peer.Name] = l.Conn
	}
	return out
}

// together calls f for 0 to n-1 at once and waits.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

func TestMeshLinksEveryPeerToEveryOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const n = 4
	var peers []*client.Client
	for i := range n {
		name := fmt.Sprintf("p%d", i)
		peers = append(peers, w.client(w.behind(name, natlab.PortRestricted(), quarter()), name))
	}
	ctx := within(t, 20*time.Second)
	got, err := peers[0].WaitPeers(ctx, n, "")
	must(t, err)
	if len(got) != n {
		t.Errorf("WaitPeers(%d) returned %d peers", n, len(got))
	}
	links := make([]map[string]*client.Conn, n)
	together(n, func(i int) {
		g, err := peers[i].Mesh(ctx, "all", n)
		must(t, err)
		links[i] = collect(t, g, n-1)
		for name, conn := range links[i] {
			if conn.Collective() != "all" {
				t.Errorf("link to %s belongs to %q", name, conn.Collective())
			}
			go echoStreams(conn)
		}
	})
	together(n, func(i int) {
		for _, conn := range links[i] {
			roundTrip(t, conn, 20_000)
		}
	})
}

func TestBipartiteLinksTheSidesAndWhoJoinsLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := within(t, 30*time.Second)
	role := func(r string) func(*client.Config) { return func(c *client.Config) { c.Role = r } }
	join := func(c *client.Client) *client.Group {
		g, err := c.Bipartite(ctx, "shuffle", client.Side{Role: "map", Size: 2}, client.Side{Role: "reduce", Size: 2})
		must(t, err)
		return g
	}
	clients := make([]*client.Client, 4)
	groups := make([]*client.Group, 4)
	for i, name := range []string{"m0", "m1", "r0", "r1"} {
		r := "map"
		if i >= 2 {
			r = "reduce"
		}
		clients[i] = w.client(w.behind(name, natlab.PortRestricted(), quarter()), name, role(r))
		groups[i] = join(clients[i])
	}
	together(4, func(i int) { collect(t, groups[i], 2) })

	// A mapper dies and comes back as another incarnation: only its links are made anew.
	must(t, clients[0].Close())
	again := w.client(w.behind("m0 again", natlab.PortRestricted(), quarter()), "m0", role("map"))
	g := join(again)
	collect(t, g, 2)
	for _, i := range []int{2, 3} {
		if links := collect(t, groups[i], 1); links["m0"] == nil || links["m0"].Peer().Fingerprint != again.Self().Fingerprint {
			t.Errorf("reducer %d got %v", i, links)
		}
	}
	must(t, groups[3].Close())
	if _, err := groups[3].Next(ctx); !isErr(err, client.ErrClosed) {
		t.Errorf("Next of a closed group: %v", err)
	}
}

func TestGroupReportsLinksThatCannotBeMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := within(t, 20*time.Second)
	var groups []*client.Group
	for _, name := range []string{"a", "b"} {
		c := w.client(w.behind(name, natlab.Symmetric(), quarter()), name)
		g, err := c.Mesh(ctx, "all", 2)
		must(t, err)
		groups = append(groups, g)
	}
	for _, g := range groups {
		l, err := g.Next(ctx)
		must(t, err)
		if client.ReasonOf(l.Err) != protocol.ReasonMappingVaries || l.Peer.Name == "" {
			t.Errorf("got %+v, want mapping_varies", l)
		}
		r := g.Report()
		if r.Failed != 1 || len(r.Pairs) != 1 || r.Pairs[0].Peer.Name != l.Peer.Name || r.Pairs[0].State != client.LinkFailed ||
			client.ReasonOf(r.Pairs[0].Err) != protocol.ReasonMappingVaries || !strings.Contains(r.String(), "mapping_varies") {
			t.Errorf("report %+v", r)
		}
	}
	if n := groups[0].Retry(); n != 1 {
		t.Errorf("%d pairs are tried again, want 1", n)
	}
	for _, g := range groups { // nothing has changed, so both hear it again
		if l, err := g.Next(ctx); err != nil || client.ReasonOf(l.Err) != protocol.ReasonMappingVaries {
			t.Errorf("after a retry: %+v, %v", l, err)
		}
	}
	must(t, groups[1].Close())
}

func TestReportFollowsALink(t *testing.T) {
	w := newWorld(t)
	ctx := within(t, 20*time.Second)
	var groups []*client.Group
	for _, name := range []string{"a", "b"} {
		g, err := w.client(w.behind(name, natlab.PortRestricted()), name).Mesh(ctx, "all", 2)
		must(t, err)
		groups = append(groups, g)
	}
	a, b := collect(t, groups[0], 1)["b"], collect(t, groups[1], 1)["a"]
	r := groups[0].Report()
	if want := (client.PairReport{Peer: a.Peer(), State: client.LinkUp, Session: a.Info().SessionID, Attempts: 1}); len(r.Pairs) != 1 || r.Pairs[0] != want || r.Up != 1 {
		t.Errorf("report %+v, want %+v", r, want)
	}
	must(t, b.Close())
	<-a.Context().Done()
	within := time.After(5 * time.Second)
	for groups[0].Report().Closed != 1 {
		select {
		case <-within:
			t.Fatalf("report %+v of a closed link", groups[0].Report())
		case <-time.After(time.Millisecond):
		}
	}
	if n := groups[0].Retry(); n != 0 {
		t.Errorf("%d closed links are tried again", n)
	}
}

func TestGroupLinksOutliveTheServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := within(t, 40*time.Second)
	signedIn := make(chan string, 16)
	watch := func(name string) func(*client.Config) {
		return func(c *client.Config) {
			c.OnEvent = func(e client.Event) {
				if e.Kind == client.EventSignedIn {
					signedIn <- name
				}
			}
		}
	}
	a := w.client(w.behind("a", natlab.PortRestricted(), quarter()), "a", watch("a"))
	b := w.client(w.behind("b", natlab.PortRestricted(), quarter()), "b", watch("b"))
	ga, err := a.Mesh(ctx, "all", 2)
	must(t, err)
	gb, err := b.Mesh(ctx, "all", 2)
	must(t, err)
	ca, cb := collect(t, ga, 1)["b"], collect(t, gb, 1)["a"]
	<-signedIn
	<-signedIn
	w.Stop()
	w.Start()
	<-signedIn
	<-signedIn
	// A third peer joins after the restart: the old link is not made again.
	c := w.client(w.behind("c", natlab.PortRestricted(), quarter()), "c")
	gc, err := c.Mesh(ctx, "all", 2)
	must(t, err)
	together(3, func(i int) {
		collect(t, []*client.Group{ga, gb, gc}[i], []int{1, 1, 2}[i])
	})
	go echoStreams(cb)
	roundTrip(t, ca, 1000)
}

func TestBipartiteRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.client(w.behind("a", natlab.PortRestricted()), "a", func(c *client.Config) { c.Role = "map" })
	ctx := within(t, 10*time.Second)
	for _, tc := range []struct{ a, b client.Side }{
		{client.Side{Role: "map", Size: 1}, client.Side{Role: "map", Size: 1}},
		{client.Side{Role: "x", Size: 1}, client.Side{Role: "y", Size: 1}},
		{client.Side{Role: "map", Size: 0}, client.Side{Role: "y", Size: 1}},
	} {
		if _, err := c.Bipartite(ctx, "c", tc.a, tc.b); err == nil {
			t.Errorf("%v, %v: joined", tc.a, tc.b)
		}
	}
	g, err := c.Mesh(ctx, "m", 3)
	must(t, err)
	if _, err := c.Mesh(ctx, "m", 3); err == nil {
		t.Error("joined the same collective twice")
	}
	must(t, g.Close())
	_, err = c.Mesh(ctx, "m", 3)
	must(t, err)
}
