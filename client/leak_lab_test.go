package client_test

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/server/rendezvous"
)

const (
	leakConnects = "BRADAWL_LEAK_CONNECTS"
	leakWarmUp   = 50
	// leakPerConnect and leakNoise bound what the heap may grow by, in bytes: the collector's own bookkeeping is never quite the same twice.
	leakPerConnect = 24
	leakNoise      = 192 << 10
)

// footprint is what this process holds.
type footprint struct {
	goroutines, files int
	heap              uint64
	held              [2][4]int // by the two clients
	sessions          float64   // by the rendezvous
}

func takeFootprint(t *testing.T, r *prometheus.Registry, clients [2]*client.Client) (f footprint) {
	t.Helper()
	f.goroutines = runtime.NumGoroutine()
	files, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	f.files = len(files)
	for i, c := range clients {
		f.held[i] = client.Held(c)
	}
	families, err := r.Gather()
	must(t, err)
	for _, m := range families {
		if m.GetName() == "bradawl_sessions" {
			f.sessions = m.GetMetric()[0].GetGauge().GetValue()
		}
	}
	for range 3 { // pools and finalizers need more than one
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	f.heap = m.HeapAlloc
	return f
}

// settled takes the footprint once nothing but base is left, or as it is after a while: what was closed
// lives on for three probe timeouts (RFC 9000 section 10.2).
func settled(t *testing.T, r *prometheus.Registry, clients [2]*client.Client, base footprint) footprint {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		f := takeFootprint(t, r, clients)
		if f.goroutines <= base.goroutines && f.files <= base.files && f.held == [2][4]int{} && f.sessions == 0 || time.Now().After(deadline) {
			return f
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
}

// Not parallel: it counts what the whole process holds.
func TestConnectsInARowLeaveNothingBehind(t *testing.T) {
	n := 200
	if s := os.Getenv(leakConnects); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		must(t, err)
	}
	registry := prometheus.NewRegistry()
	w := newWorld(t, func(c *rendezvous.Config) { c.Registerer = registry })
	clients := [2]*client.Client{
		w.client(w.behind("a", natlab.PortRestricted()), "a"),
		w.client(w.behind("b", natlab.PortRestricted()), "b"),
	}
	connect := func(times int) {
		for i := range times {
			from, to := clients[i%2], clients[1-i%2]
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			conn, err := from.Connect(ctx, to.Self().Name)
			must(t, err)
			there, err := to.Accept(ctx)
			must(t, err)
			must(t, conn.Proven(ctx))
			must(t, there.Proven(ctx))
			must(t, conn.Close())
			<-there.Context().Done()
			cancel()
		}
	}
	connect(leakWarmUp)
	base := settled(t, registry, clients, footprint{goroutines: 1 << 30, files: 1 << 30})
	began := time.Now()
	connect(n / 2)
	half := settled(t, registry, clients, base)
	connect(n - n/2)
	end := settled(t, registry, clients, base)
	t.Logf("%d connects in %v\nbase %+v\nhalf %+v\nend  %+v", n, time.Since(began).Round(time.Millisecond), base, half, end)
	if end.goroutines > base.goroutines || end.files > base.files {
		t.Errorf("%d goroutines and %d files more than before", end.goroutines-base.goroutines, end.files-base.files)
		buf := make([]byte, 1<<20)
		t.Logf("%s", buf[:runtime.Stack(buf, true)])
	}
	if end.held != [2][4]int{} || end.sessions != 0 {
		t.Errorf("the clients hold %v, the rendezvous %v sessions", end.held, end.sessions)
	}
	grown := int64(end.heap) - int64(half.heap)
	if allowed := int64(leakNoise + leakPerConnect*(n-n/2)); grown > allowed {
		t.Errorf("the heap grew by %d bytes over the last %d connects, at most %d are noise", grown, n-n/2, allowed)
	}
}
