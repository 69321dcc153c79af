package client_test

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/server/rendezvous"
)

// known signs a peer in and waits until all that a sign-in finds out about its NAT is known to the rendezvous.
func (w *world) known(h *natlab.Host, name string, change ...func(*client.Config)) *client.Client {
	w.t.Helper()
	filtering := make(chan struct{})
	var once sync.Once
	c := w.client(h, name, append(change, func(cfg *client.Config) {
		next := cfg.OnEvent
		cfg.OnEvent = func(e client.Event) {
			if e.Kind == client.EventFiltering {
				once.Do(func() { close(filtering) })
			}
			if next != nil {
				next(e)
			}
		}
	})...)
	select {
	case <-filtering:
	case <-within(w.t, 10*time.Second).Done():
		w.t.Fatalf("%s does not know how its NAT filters", name)
	}
	// Messages come in order: the rendezvous knows it, too, when it answers this.
	_, err := c.WaitPeers(within(w.t, 10*time.Second), 1, "")
	must(w.t, err)
	return c
}

func TestSymmetricAndPortRestrictedMeetByManySocketsAndGuessedPorts(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		a, b natlab.NAT
		want string
	}{
		{"symmetric asks", natlab.Symmetric(), natlab.PortRestricted(), "many_sockets"},
		{"symmetric is asked", natlab.PortRestricted(), natlab.Symmetric(), "guessed_ports"},
		{"without a drop rule", natlab.Symmetric(), natlab.PortRestrictedNoDrop(), "many_sockets"},
		{"symmetric in sequence asks", natlab.SequentialSymmetric(), natlab.PortRestricted(), "many_sockets"},
		{"symmetric in sequence is asked", natlab.PortRestricted(), natlab.SequentialSymmetric(), "predicted_ports"},
		{"address-dependent mapping", addressDependentMapping(), natlab.PortRestricted(), "many_sockets"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWideWorld(t)
			a, b := w.known(w.behind("a", tc.a, quarter()), "a"), w.known(w.behind("b", tc.b, quarter()), "b")
			echo(t, b)
			ctx := within(t, 15*time.Second)
			conn, err := a.Connect(ctx, "b")
			must(t, err)
			must(t, conn.Proven(ctx))
			i := conn.Info()
			if quick := tc.a.Ports == natlab.SequentialPorts || tc.b.Ports == natlab.SequentialPorts; quick && i.Attempts == 1 && i.InitsOut > 200 {
				t.Errorf("%d INITs though the ports are predicted", i.InitsOut)
			}
			if i.Strategy != tc.want {
				t.Errorf("by %s, want %s", i.Strategy, tc.want)
			}
			t.Logf("connected in %v, attempt %d, %d INITs, path %s", i.ConnectDuration, i.Attempts, i.InitsOut, i.Path)
			roundTrip(t, conn, 200_000)
			if n := client.FurtherSockets(a) + client.FurtherSockets(b); n != 1 {
				t.Errorf("%d further sockets are open, want the one of the connection", n)
			}
			must(t, conn.Close())
		})
	}
}

func addressDependentMapping() natlab.NAT {
	return natlab.NAT{Mapping: natlab.AddressDependentMapping, Ports: natlab.RandomPorts, DropUnsolicited: true}
}

func TestHardConnectionsLeaveNothingBehind(t *testing.T) {
	w := newWideWorld(t)
	ha, hb := w.behind("a", natlab.Symmetric(), quarter()), w.behind("b", natlab.PortRestricted(), quarter())
	before := goleak.IgnoreCurrent()
	a, b := w.known(ha, "a"), w.known(hb, "b")
	ctx := within(t, 20*time.Second)
	for range 2 {
		conn, err := a.Connect(ctx, "b")
		must(t, err)
		other, err := b.Accept(ctx)
		must(t, err)
		must(t, conn.Proven(ctx))
		must(t, other.Proven(ctx))
		must(t, conn.Close())
		<-other.Context().Done()
	}
	for client.FurtherSockets(a)+client.FurtherSockets(b) > 0 {
		select {
		case <-ctx.Done():
			t.Fatalf("%d and %d sockets are left", client.FurtherSockets(a), client.FurtherSockets(b))
		case <-time.After(10 * time.Millisecond):
		}
	}
	conn, err := a.Connect(ctx, "b") // one that is open when the client is closed
	must(t, err)
	must(t, conn.Proven(ctx))
	must(t, a.Close())
	must(t, b.Close())
	if n := client.FurtherSockets(a); n != 0 {
		t.Errorf("%d sockets are left", n)
	}
	goleak.VerifyNone(t, before)
}

// The first packets of a come to b's NAT long before b sends any, and take its mapping away; nothing but another mapping
// helps.
func TestASpoiltMappingIsReplacedByAFreshSocket(t *testing.T) {
	t.Parallel()
	w := newWideWorld(t)
	far := natlab.Link{Delay: 25 * time.Millisecond} // so that even a busy machine fires both sides before anything arrives
	a := w.known(w.behind("a", natlab.PortRestrictedNoDrop(), far), "a")
	b := w.known(w.behind("b", natlab.PortRestrictedNoDrop(), far), "b")
	echo(t, b)
	ctx := within(t, 15*time.Second)
	client.SendBetween(a, client.Observed(b))
	conn, err := a.Connect(ctx, "b")
	must(t, err)
	must(t, conn.Proven(ctx))
	if i := conn.Info(); i.Strategy != "fresh_socket" || i.Attempts < 2 {
		t.Errorf("connected by %s in attempt %d", i.Strategy, i.Attempts)
	} else {
		t.Logf("connected in %v, attempt %d", i.ConnectDuration, i.Attempts)
	}
	roundTrip(t, conn, 200_000)
}

// The tests for a NAT's filter make the rendezvous send where nobody has sent to. Where a NAT keeps a trace of that, the
// client's own mapping must stay what it is.
func TestLookingAtTheNATSpoilsNoMappingOfTheClients(t *testing.T) {
	t.Parallel()
	w := newWideWorld(t)
	site := w.site("a", natlab.PortRestrictedNoDrop(), quarter())
	h, err := site.AddHost("a")
	must(t, err)
	a := w.known(h, "a")
	count, err := site.Counters()
	must(t, err)
	if count.UnsolicitedPackets == 0 {
		t.Fatal("the filter was not tested")
	}
	b := w.known(w.behind("b", natlab.FullCone(), quarter()), "b")
	ctx := within(t, 15*time.Second)
	conn, err := a.Connect(ctx, "b")
	must(t, err)
	must(t, conn.Proven(ctx))
	seen, err := b.Accept(ctx)
	must(t, err)
	if got := seen.Info().Remote; got != client.Observed(a) || conn.Info().Attempts != 1 {
		t.Errorf("b sees a at %s in attempt %d, the rendezvous at %s", got, conn.Info().Attempts, client.Observed(a))
	}
}

func TestHopelessPairsFailSoonAndSayWhy(t *testing.T) {
	t.Parallel()
	for _, early := range []bool{false, true} {
		w := newWideWorld(t)
		sign := w.known
		if early { // asked before anything is known of the NATs
			sign = w.signedIn
		}
		a, b := sign(w.behind("a", natlab.Symmetric(), quarter()), "a"), sign(w.behind("b", natlab.Symmetric(), quarter()), "b")
		echo(t, b)
		start := time.Now()
		_, err := a.Connect(within(t, 10*time.Second), "b")
		if took := time.Since(start); client.ReasonOf(err) != protocol.ReasonMappingVaries || took > 8*time.Second {
			t.Errorf("early %v: %v after %v, want mapping_varies soon", early, err, took)
		}
	}
}

func TestASymmetricNATIsMetThoughNothingIsKnownOfItYet(t *testing.T) {
	t.Parallel()
	w := newWideWorld(t)
	a := w.signedIn(w.behind("a", natlab.Symmetric(), quarter()), "a")
	b := w.signedIn(w.behind("b", natlab.PortRestricted(), quarter()), "b")
	echo(t, b)
	ctx := within(t, 15*time.Second)
	conn, err := a.Connect(ctx, "b")
	must(t, err)
	must(t, conn.Proven(ctx))
	t.Logf("connected in %v, attempt %d, by %s", conn.Info().ConnectDuration, conn.Info().Attempts, conn.Info().Strategy)
}

// signedIn signs a peer in and waits for nothing more.
func (w *world) signedIn(h *natlab.Host, name string, change ...func(*client.Config)) *client.Client {
	w.t.Helper()
	cfg := w.config(h, name)
	for _, f := range change {
		f(&cfg)
	}
	c, err := client.SignIn(within(w.t, 10*time.Second), cfg)
	must(w.t, err)
	w.t.Cleanup(func() { _ = c.Close() })
	return c
}

// newWideWorld is a world whose rendezvous has a second address.
func newWideWorld(t testing.TB) *world {
	t.Helper()
	natlab.Require(t)
	lab, err := natlab.New(natlab.Config{})
	must(t, err)
	t.Cleanup(func() { must(t, lab.Close()) })
	return worldIn(t, lab, func(c *rendezvous.Config) {
		h, err := lab.AddHost("other")
		must(t, err)
		c.OtherPacketConn, err = h.ListenUDP(netip.AddrPort{})
		must(t, err)
	})
}
