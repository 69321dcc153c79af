package client_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/natlab"
)

// fullSockets sums the packets for which the UDP sockets of a host had no room.
func fullSockets(t *testing.T, h *natlab.Host) (drops int) {
	t.Helper()
	must(t, h.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/udp")
		if err != nil {
			return err
		}
		for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
			fields := strings.Fields(line)
			if i == 0 {
				continue
			}
			n, err := strconv.Atoi(fields[len(fields)-1])
			if err != nil {
				return err
			}
			drops += n
		}
		return nil
	}))
	return drops
}

// 200 peers fire at one in the same moment. Nothing is between them that could lose a packet, so each INIT
// that was sent must have been read. That is what counts here: on a machine that is busy with other things, some of so many
// handshakes in one process come too late.
func TestNoINITOfABurstIsLostAtItsTarget(t *testing.T) {
	const wide = 200
	w := newWorld(t)
	place, err := w.lab.AddHost("many")
	must(t, err)
	target, err := w.lab.AddHost("target")
	must(t, err)
	hub := w.client(target, "hub", func(c *client.Config) { c.Role = "reduce" })
	var sent atomic.Uint64
	peers := make([]*client.Client, wide)
	signIn := func(i int) {
		name := fmt.Sprintf("p%d", i)
		peers[i] = w.client(place, name, func(c *client.Config) {
			c.Role = "map"
			c.OnEvent = func(e client.Event) {
				if e.Kind == client.EventInitOut && e.Addr.Addr() == target.Addr() {
					sent.Add(1)
				}
			}
		})
	}
	for i := 0; i < wide; i += 20 {
		together(20, func(k int) { signIn(i + k) })
	}
	before := client.InitsRead(hub)
	ctx := within(t, 90*time.Second)
	join := func(c *client.Client) *client.Group {
		g, err := c.Bipartite(ctx, "burst", client.Side{Role: "map", Size: wide}, client.Side{Role: "reduce", Size: 1})
		must(t, err)
		return g
	}
	var waiting sync.WaitGroup
	for _, p := range peers {
		g := join(p)
		waiting.Go(func() {
			if _, err := g.Next(ctx); err != nil {
				t.Errorf("%s: %v", p.Self().Name, err)
			}
		})
	}
	g := join(hub)
	for range wide {
		if _, err := g.Next(ctx); err != nil {
			t.Fatal(err)
		}
	}
	waiting.Wait()
	if r := g.Report(); r.Up < wide/2 || len(r.Pairs) != wide {
		t.Errorf("report: %s", r)
	}
	for client.InitsRead(hub)-before != sent.Load() { // the last ones may be on their way
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("%d INITs were sent, %d read; the kernel dropped %d packets", sent.Load(), client.InitsRead(hub)-before, fullSockets(t, target))
		}
	}
	if sent.Load() < wide {
		t.Errorf("only %d INITs were sent", sent.Load())
	}
	if n := fullSockets(t, target); n != 0 {
		t.Errorf("the kernel dropped %d packets at the full socket", n)
	}
}
