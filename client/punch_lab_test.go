package client_test

import (
	"testing"
	"time"

	"github.com/bradawl/bradawl/internal/natlab"
)

func TestPeersBehindPortRestrictedNATsConnect(t *testing.T) {
	w := newWorld(t).serve()
	link := natlab.Link{Delay: 250 * time.Microsecond}
	a := w.client(w.behind("a", natlab.PortRestricted(), link), "a")
	b := w.client(w.behind("b", natlab.PortRestricted(), link), "b")
	echo(t, b)
	ctx := within(t, 10*time.Second)
	for range 5 {
		conn, err := a.Connect(ctx, "b")
		must(t, err)
		must(t, conn.Proven(ctx))
		t.Logf("%+v rtt %v", conn.Info(), conn.RTT())
		roundTrip(t, conn, 100_000)
		must(t, conn.Close())
	}
}
