package exchange

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Requests to S3 that take longer than their size and the others before them
// suggest get a second one beside them, and the first answer counts (Starling,
// SIGMOD 2020, does the same). All that is raced may take effect twice: objects have
// names and bytes of their own, and records are conditional.

const (
	// raceFactor is how many times the 90th percentile a request may take.
	raceFactor = 3
	// raceUnknown is how long a request may take while nothing is known: five times
	// the 99th percentile that has been published for S3.
	raceUnknown = 600 * time.Millisecond
	minRace     = 50 * time.Millisecond
	maxRace     = 5 * time.Second
	// historyLength is how many requests are remembered, historyEnough of how many
	// on they are believed.
	historyLength = 64
	historyEnough = 8
	// racesFree may be made in any case, beyond them one per racesPer requests.
	racesFree = 4
	racesPer  = 10
	// racePause is how long after a 503 SlowDown no request is made twice.
	racePause = 10 * time.Second
)

// history is how long the latest requests of one kind took, without the time
// that their size explains. The zero value is empty.
type history struct {
	mu   sync.Mutex
	took [historyLength]time.Duration
	n    int
}

func (h *history) add(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.took[h.n%historyLength] = max(d, 0)
	h.n++
}

// p90 gives the 90th percentile; ok is false while too little is known.
func (h *history) p90() (d time.Duration, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n < historyEnough {
		return 0, false
	}
	list := slices.Clone(h.took[:min(h.n, historyLength)])
	slices.Sort(list)
	return list[(len(list)*9+9)/10-1], true
}

// raceAfter is how long a request may take before it is raced.
func raceAfter(p90 time.Duration, known bool, size int64, rate float64) time.Duration {
	d := raceUnknown
	if known {
		d = raceFactor * p90
	}
	d = min(max(d, minRace), maxRace)
	if size > 0 && rate > 0 {
		d += time.Duration(2 * float64(size) / rate * float64(time.Second))
	}
	return d
}

// mayRace bounds what racing costs, and keeps it off a service that has too
// much to do already.
func mayRace(requests, raced int64, lastSlowDown, now time.Time) bool {
	if !lastSlowDown.IsZero() && now.Sub(lastSlowDown) < racePause {
		return false
	}
	return raced < racesFree+requests/racesPer
}

// raced is a result that won.
type raced[T any] struct {
	value  T
	err    error
	second bool
	cancel context.CancelFunc // frees the request, and what hangs on its context
}

// race does something, and once more beside it if that takes longer than after
// and may be. It returns when neither is at work any more. Refusals are answers;
// after any other error the other one may still succeed.
func race[T any](ctx context.Context, after time.Duration, may func() bool, do func(ctx context.Context) (T, error), discard func(T)) raced[T] {
	results := make(chan raced[T], 2)
	cancels := make([]context.CancelFunc, 0, 2)
	start := func() {
		own, cancel := context.WithCancel(ctx)
		second := len(cancels) > 0
		cancels = append(cancels, cancel)
		go func() {
			v, err := do(own)
			results <- raced[T]{v, err, second, cancel}
		}()
	}
	start()
	timer := time.NewTimer(after)
	defer timer.Stop()
	for running := 1; ; {
		select {
		case <-timer.C:
			if may() {
				start()
				running++
			}
		case r := <-results:
			running--
			if r.err != nil && running > 0 && !isAnswer(r.err) {
				r.cancel()
				continue
			}
			for i, cancel := range cancels {
				if r.err != nil || (i > 0) != r.second {
					cancel()
				}
			}
			for ; running > 0; running-- {
				if other := <-results; other.err == nil {
					discard(other.value)
				}
			}
			return r
		}
	}
}

// isAnswer says that an error is what S3 answers to the request, whoever asks.
func isAnswer(err error) bool {
	switch s := status(err); s {
	case http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	default:
		return s >= 400 && s < 500
	}
}
