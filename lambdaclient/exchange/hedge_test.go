package exchange

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/bradawl/bradawl/internal/s3lab"
)

func TestARequestIsRacedAfterWhatSizeAndHistorySuggest(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	of := func(n int, d time.Duration) *history {
		h := &history{}
		for range n {
			h.add(d)
		}
		return h
	}
	mixed := of(90, 20*ms)
	for range 6 { // of the last 64: under a tenth
		mixed.add(time.Second)
	}
	slower := of(100, 20*ms)
	for range historyLength {
		slower.add(100 * ms)
	}
	for _, tc := range []struct {
		name string
		h    *history
		size int64
		want time.Duration
	}{
		{"nothing known", &history{}, 0, raceUnknown},
		{"too little known", of(historyEnough-1, 20*ms), 0, raceUnknown},
		{"enough known", of(historyEnough, 40*ms), 0, 120 * ms},
		{"a few slow ones do not count", mixed, 0, 60 * ms},
		{"old ones are forgotten", slower, 0, 300 * ms},
		{"very fast", of(9, ms), 0, minRace},
		{"very slow", of(9, time.Minute), 0, maxRace},
		{"much to send", of(9, 40*ms), 50e6, 120*ms + 10*time.Second},
		{"negative times are none", of(9, -time.Second), 0, minRace},
	} {
		p90, known := tc.h.p90()
		if got := raceAfter(p90, known, tc.size, 10e6); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestRacesAreBoundedAndNotForAServiceThatIsBusy(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tc := range []struct {
		requests, raced int64
		slow            time.Time
		want            bool
	}{
		{1, 0, time.Time{}, true}, {1, racesFree - 1, time.Time{}, true}, {1, racesFree, time.Time{}, false},
		{100, racesFree + 9, time.Time{}, true}, {100, racesFree + 10, time.Time{}, false},
		{1, 0, now.Add(-racePause), true}, {1, 0, now.Add(-racePause + 1), false},
	} {
		if got := mayRace(tc.requests, tc.raced, tc.slow, now); got != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
	}
}

func TestTheFasterOfTwoRequestsCounts(t *testing.T) {
	t.Parallel()
	boom, lost := errors.New("boom"), errors.New("lost")
	type result struct {
		after time.Duration
		err   error
	}
	for _, tc := range []struct {
		name          string
		first, second result
		not           bool // races are not allowed
		want          string
		took          time.Duration
		started       int
		discarded     int
	}{
		{name: "fast", first: result{after: 1}, want: "0", took: 1, started: 1},
		{name: "slow, and the second wins", first: result{after: 100}, second: result{after: 2}, want: "1", took: 12, started: 2},
		{name: "slow, and still first", first: result{after: 13}, second: result{after: 9}, want: "0", took: 13, started: 2},
		{name: "slow, but not allowed", first: result{after: 100}, not: true, want: "0", took: 100, started: 1},
		{name: "fails before", first: result{1, boom}, want: "boom", took: 1, started: 1},
		{name: "the first fails, the second does not", first: result{11, boom}, second: result{after: 5}, want: "1", took: 15, started: 2},
		{name: "the second fails, the first does not", first: result{after: 20}, second: result{1, boom}, want: "0", took: 20, started: 2},
		{name: "both fail", first: result{11, boom}, second: result{5, lost}, want: "lost", took: 15, started: 2},
		{name: "both at once", first: result{after: 15}, second: result{after: 5}, want: "?", took: 15, started: 2, discarded: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var started atomic.Int32
				discarded := 0
				r := race(t.Context(), 10, func() bool { return !tc.not }, func(ctx context.Context) (string, error) {
					n := started.Add(1) - 1
					this := []result{tc.first, tc.second}[n]
					timer := time.NewTimer(this.after)
					defer timer.Stop()
					select {
					case <-timer.C:
						return fmt.Sprint(n), this.err
					case <-ctx.Done():
						if tc.want == "?" { // too late to be stopped
							return fmt.Sprint(n), nil
						}
						return "", context.Cause(ctx)
					}
				}, func(string) { discarded++ })
				got := r.value
				if r.err != nil {
					got = r.err.Error()
				}
				if (got != tc.want && tc.want != "?") || time.Since(start) != tc.took || int(started.Load()) != tc.started || discarded != tc.discarded || (r.err == nil && r.second != (got == "1")) {
					t.Errorf("%q after %v, %d started, %d discarded, second %v", got, time.Since(start), started.Load(), discarded, r.second)
				}
				r.cancel()
			})
		})
	}
}

// impatient is a client whose SDK waits but briefly before it tries again.
func (f *fixture) impatient() {
	f.store.Client = s3.New(f.store.Client.Options(), func(o *s3.Options) {
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = 10 * time.Millisecond })
	})
}

// inject spoils requests to one job's keys.
func (f *fixture) inject(fault s3lab.Fault) {
	f.t.Helper()
	fault.Path = "/" + f.shuffle.Job + "/" + fault.Path
	if err := lab.srv.Inject(within(f.t), fault); err != nil {
		f.t.Fatal(err)
	}
}

func TestARequestThatHangsIsOvertaken(t *testing.T) {
	for _, tc := range []struct{ name, operation, path string }{
		{"data", "PutObject", "shuffle/0/0-"}, {"commit record", "PutObject", "shuffle/0/commit"},
		{"reading the record", "GetObject", "shuffle/0/commit"}, {"reading the data", "GetObject", "shuffle/0/0-"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, S3, 1, 1)
			f.shuffle.Job = "hang-" + strings.ReplaceAll(tc.name, " ", "-")
			f.inject(s3lab.Fault{Operation: tc.operation, Path: tc.path, Count: 1, Delay: patience})
			data := bytesOf(100_000, "x")
			p := f.producer(0, 0)
			fill(t, p, data)
			finish(t, p)
			c := f.consumer(0, 0)
			mustRead(t, c, 0, data)
			pr, cr := wait(t, p).S3, c.Report().S3
			if raced, won := pr.Raced+cr.Raced, pr.RacesWon+cr.RacesWon; raced < 1 || won < 1 {
				t.Errorf("%d raced, %d won", raced, won)
			}
			if !p.Report().Won {
				t.Error("the attempt does not know that its record is the one that counts")
			}
		})
	}
}

func TestSlowDownIsBackedOffFromUntilItEnds(t *testing.T) {
	f := newFixture(t, S3, 1, 1)
	f.shuffle.Job = "slow-down"
	f.impatient()
	// The SDK tries three times: the producer has to come back twice, the consumer too.
	const refusals = 7
	f.inject(s3lab.Fault{Operation: "PutObject", Path: "shuffle/0/0-", Count: refusals, Status: 503})
	f.inject(s3lab.Fault{Operation: "GetObject", Path: "shuffle/0/0-", Count: refusals, Status: 503})
	data := bytesOf(100_000, "x")
	p := f.producer(0, 0)
	fill(t, p, data)
	finish(t, p)
	c := f.consumer(0, 0)
	mustRead(t, c, 0, data)
	if r := wait(t, p); r.S3.SlowDowns != refusals || !r.Won || r.S3.Raced != 0 {
		t.Errorf("%+v", r)
	}
	if r := c.Report(); r.S3.SlowDowns != refusals || r.S3.Raced != 0 {
		t.Errorf("%+v", r)
	}
}

func TestAProducersPartsAreSlowedDownAndComeThrough(t *testing.T) {
	f := newFixture(t, S3, 1, 1)
	f.shuffle.Job = "slow-parts"
	f.impatient()
	f.inject(s3lab.Fault{Operation: "UploadPart", Path: "shuffle/0/0-", Count: 4, Status: 503})
	f.inject(s3lab.Fault{Operation: "CompleteMultipartUpload", Path: "shuffle/0/0-", Count: 2, Status: 500})
	data := bytesOf(multipartOver+1, "x")
	p := f.producer(0, 0)
	fill(t, p, data)
	finish(t, p)
	mustRead(t, f.consumer(0, 0), 0, data)
	// A request that fails for good is not repeated by the SDK, but in the producer's next write: of six failures up to two
	// are that, as parts go in parallel.
	if r := wait(t, p); r.S3.SlowDowns != 4 || r.S3.Retries < 4 {
		t.Errorf("%+v", r)
	}
}

func TestProducersAreSpreadEvenlyOverPrefixes(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for i := range 1600 {
		seen[spread("a/job", i)]++
	}
	if len(seen) != spreadOver {
		t.Fatalf("%d prefixes", len(seen))
	}
	for x, n := range seen {
		if len(x) != 1 || n < 50 || n > 150 {
			t.Errorf("prefix %q has %d of 1,600 producers", x, n)
		}
	}
	if !bytes.HasPrefix([]byte(commitKey("a/job", 3)), []byte(spread("a/job", 3)+"/a/job/shuffle/3/")) {
		t.Error(commitKey("a/job", 3))
	}
}
