package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/protocol"
)

// warm is how long both sides are signed in before the first measurement: the
// estimate of the rendezvous's clock takes some round trips where they vary.
const warm = 5 * time.Second

// firsts notes when each side of each session sent its first INIT of the first attempt.
type firsts struct {
	mu sync.Mutex
	at map[protocol.SessionID]time.Time
}

func (f *firsts) note(e client.Event) {
	if e.Kind != client.EventInitOut || e.Attempt != 1 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, again := f.at[e.Session]; !again {
		f.at[e.Session] = e.Time
	}
}

func (f *firsts) get(id protocol.SessionID) (time.Time, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.at[id]
	return t, ok
}

// skewResult says how far apart the two first INITs of exact mode left. Both
// sides share this machine's clock, which only the measurement uses: the peers
// know the rendezvous's clock by their own estimates.
type skewResult struct {
	Scenario scenario `json:"scenario"`
	Seed     uint64   `json:"seed"`
	Failures int      `json:"failures"`
	// Skew is |a-b| of exact mode.
	Skew *spread `json:"skew_ms"`
	// AsComes is the same of the default, where both fire as their orders come in.
	AsComes *spread `json:"default_skew_ms"`
	// Limit is what the 99th percentile must not exceed.
	Limit float64 `json:"limit_ms"`
}

// String is a line for each mode.
func (r *skewResult) String() string {
	s := r.Scenario
	line := func(what string, d *spread) string {
		if d == nil {
			return what + ": nothing measured\n"
		}
		return fmt.Sprintf("%s: p50 %.2f ms, p99 %.2f ms, largest %.2f ms (n=%d)\n", what, d.P50, d.P99, d.Max, d.N)
	}
	return fmt.Sprintf("%s: one way to the rendezvous %v and %v, jitter up to %v, seed %d; %d failures\n", s.Name, s.A+s.Server, s.B+s.Server, s.Jitter, r.Seed, r.Failures) +
		line("  exact mode, skew of the first INITs", r.Skew) +
		line("  as the orders come", r.AsComes) +
		fmt.Sprintf("  limit of exact mode's p99: %.0f ms\n", r.Limit)
}

func measureSkew(o options, s scenario) (_ *skewResult, err error) {
	w, err := newWorld(s, o.seed)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := w.close(); err == nil {
			err = cerr
		}
	}()
	r := &skewResult{Scenario: s, Seed: w.lab.Seed(), Limit: 2}
	if s.Jitter > 0 {
		r.Limit = 10
	}
	at := map[string]*firsts{"a": {at: map[protocol.SessionID]time.Time{}}, "b": {at: map[protocol.SessionID]time.Time{}}}
	own := &ours{w: w}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b, err := own.signIn(ctx, w.b, "b", nil, at["b"].note)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	a, err := own.signIn(ctx, w.a, "a", nil, at["a"].note)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	time.Sleep(warm)
	once := func(opts ...client.ConnectOption) (time.Duration, error) {
		ctx, cancel := context.WithTimeout(ctx, o.timeout)
		defer cancel()
		conn, err := a.Connect(ctx, "b", opts...)
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		if err := conn.Proven(ctx); err != nil {
			return 0, err
		}
		other, err := b.Accept(ctx)
		if err != nil {
			return 0, err
		}
		<-time.After(settle)
		_ = other.Close()
		fromA, okA := at["a"].get(conn.Info().SessionID)
		fromB, okB := at["b"].get(conn.Info().SessionID)
		if !okA || !okB {
			return 0, fmt.Errorf("a side sent no INIT")
		}
		return fromA.Sub(fromB).Abs(), nil
	}
	var exact, comes []time.Duration
	for range o.n {
		time.Sleep(settle)
		d, err := once(client.Exact())
		if err != nil {
			r.Failures++
			continue
		}
		exact = append(exact, d)
		time.Sleep(settle)
		if d, err = once(); err != nil {
			r.Failures++
			continue
		}
		comes = append(comes, d)
	}
	r.Skew, r.AsComes = spreadOf(exact), spreadOf(comes)
	return r, nil
}
