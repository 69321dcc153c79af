package driver

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/bradawl/bradawl/lambdaclient/exchange"
	"github.com/bradawl/bradawl/mapreduce-demo/task"
)

// idle is a run of two mappers and two reducers that were all started once.
func idle() *run {
	r := &run{cfg: Config{MaxAttempts: 3}, mode: exchange.Direct, limit: 9, result: &Result{}}
	r.maps, r.reduces = make([]state, 2), make([]state, 2)
	for _, tasks := range [][]state{r.maps, r.reduces} {
		for i := range tasks {
			tasks[i] = state{attempts: 1, running: 1}
		}
	}
	r.running = 4
	return r
}

// end tells the run that an attempt has ended, and lists what waits to be started.
func end(t *testing.T, r *run, a Attempt) string {
	t.Helper()
	r.take(a)
	if err := r.handle(a); err != nil {
		return err.Error()
	}
	var names []string
	for _, id := range r.queue {
		names = append(names, string(id.Kind)+string(rune('0'+id.Index)))
	}
	return strings.Join(names, " ")
}

func mapper(i, attempt int) task.ID  { return task.ID{Kind: task.Map, Index: i, Attempt: attempt} }
func reducer(i, attempt int) task.ID { return task.ID{Kind: task.Reduce, Index: i, Attempt: attempt} }

func lost(id task.ID, producer int, attempts ...int) Attempt {
	return Attempt{ID: id, Error: "lost", lost: &task.Lost{Producer: producer, Attempts: attempts}}
}

// started books the start of everything that waits.
func started(r *run) {
	for _, id := range r.queue {
		s := r.state(id)
		s.attempts++
		s.running++
		s.queued = false
		r.running++
	}
	r.queue = nil
}

func TestACrashedTaskRunsAgainUntilItsAttemptsAreUsedUp(t *testing.T) {
	r := idle()
	for n := range 2 {
		if got := end(t, r, Attempt{ID: mapper(1, n), Error: "crash"}); got != "map1" {
			t.Fatalf("after crash %d: %q", n, got)
		}
		started(r)
	}
	if got := end(t, r, Attempt{ID: mapper(1, 2), Error: "crash"}); !strings.Contains(got, "map 1 failed 3 times, last with: crash") {
		t.Errorf("after the last crash: %q", got)
	}
}

func TestAFinalFailureIsNotTriedAgain(t *testing.T) {
	if got := end(t, idle(), Attempt{ID: reducer(0, 0), Error: "hopeless", final: true}); !strings.Contains(got, "reduce 0: hopeless") {
		t.Errorf("%q", got)
	}
}

func TestASuccessIsRecordedOnce(t *testing.T) {
	r := idle()
	events := 0
	r.cfg.OnEvent = func(Event) { events++ }
	r.reduces[0].running++
	end(t, r, Attempt{ID: reducer(0, 0)})
	if got := end(t, r, Attempt{ID: reducer(0, 1)}); got != "" || events != 1 {
		t.Errorf("after the second success: %q, %d events", got, events)
	}
	r.reduces[0].running++
	if got := end(t, r, Attempt{ID: reducer(0, 2), Error: "late crash"}); got != "" {
		t.Errorf("a late failure starts %q", got)
	}
}

func TestALostProducerRunsOnceForAllReducersThatMissIt(t *testing.T) {
	r := idle()
	end(t, r, Attempt{ID: mapper(0, 0)}) // it left, and its data is gone
	if got := end(t, r, lost(reducer(0, 0), 0, 0)); got != "map0 reduce0" {
		t.Errorf("after the first: %q", got)
	}
	if got := end(t, r, lost(reducer(1, 0), 0, 0)); got != "map0 reduce0 reduce1" {
		t.Errorf("after the second: %q", got)
	}
	if got := r.maps[0].replaces; len(got) != 1 || got[0] != 0 {
		t.Errorf("it replaces %v, want attempt 0 once", got)
	}
	started(r)
	// Attempt 1 is at work: a reducer that only knows attempt 0 need not start another.
	if got := end(t, r, lost(reducer(0, 1), 0, 0)); got != "reduce0" {
		t.Errorf("while attempt 1 runs: %q", got)
	}
	started(r)
	// Attempt 1 is lost too.
	end(t, r, Attempt{ID: mapper(0, 1)})
	if got := end(t, r, lost(reducer(1, 1), 0, 0, 1)); got != "map0 reduce1" {
		t.Errorf("after attempt 1 is lost: %q", got)
	}
}

func TestALostProducerThatHangsIsReplaced(t *testing.T) {
	if got := end(t, idle(), lost(reducer(0, 0), 1, 0)); got != "map1 reduce0" {
		t.Errorf("%q", got)
	}
}

func TestLosingOneForEverFailsTheJob(t *testing.T) {
	r := idle()
	got := ""
	for n := range 3 {
		got = end(t, r, lost(reducer(0, n), 0, n))
		if n < 2 {
			started(r)
		}
	}
	if !strings.Contains(got, "mapper 0 ran 3 times") {
		t.Errorf("%q", got)
	}
	if got := end(t, idle(), lost(reducer(0, 0), 7)); !strings.Contains(got, "mapper 7") {
		t.Errorf("a mapper that is not there: %q", got)
	}
}

func TestThroughS3ReducersFollowTheMappers(t *testing.T) {
	r := idle()
	r.mode = exchange.S3
	r.reduces[0], r.reduces[1] = state{}, state{}
	r.running = 2
	if got := end(t, r, Attempt{ID: mapper(0, 0)}); got != "" {
		t.Errorf("after one mapper: %q", got)
	}
	if got := end(t, r, Attempt{ID: mapper(1, 0)}); got != "reduce0 reduce1" {
		t.Errorf("after both: %q", got)
	}
}

func TestBillingIsReadFromTheLog(t *testing.T) {
	tail := "START RequestId: 1\nsome output\nEND RequestId: 1\n" +
		"REPORT RequestId: 1\tDuration: 12.34 ms\tBilled Duration: 113 ms\tMemory Size: 1769 MB\tMax Memory Used: 66 MB\tInit Duration: 100.50 ms\t\n"
	got := parseBilling(base64.StdEncoding.EncodeToString([]byte(tail)))
	want := Billing{Billed: 113 * time.Millisecond, Init: 100*time.Millisecond + 500*time.Microsecond, MemoryMB: 1769, MaxMB: 66}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for _, senseless := range []string{"", "!", base64.StdEncoding.EncodeToString([]byte("REPORT \tBilled Duration: x ms"))} {
		if got := parseBilling(senseless); got != (Billing{}) {
			t.Errorf("%q gives %+v", senseless, got)
		}
	}
}

func FuzzBilling(f *testing.F) {
	f.Add([]byte("REPORT RequestId: 1\tBilled Duration: 113 ms\tMemory Size: 1 MB"))
	f.Fuzz(func(t *testing.T, tail []byte) {
		parseBilling(base64.StdEncoding.EncodeToString(tail))
		parseBilling(string(tail))
	})
}

func TestFunctionErrorsAreOneSentence(t *testing.T) {
	for payload, want := range map[string]string{
		`{"errorType":"Runtime.ExitError","errorMessage":"signal: killed"}`: "Runtime.ExitError: signal: killed",
		`{"errorMessage":"timed out"}`:                                      "timed out",
		`null`:                                                              "the function failed without a word",
		`garbage`:                                                           "the function failed without a word",
	} {
		if got := functionError([]byte(payload)).Error(); got != want {
			t.Errorf("%s: %q, want %q", payload, got, want)
		}
	}
}

func TestAnEmptyJobIsRefused(t *testing.T) {
	if _, err := Run(t.Context(), Config{}); !errors.Is(err, ErrFailed) {
		t.Errorf("error %v", err)
	}
}

func TestThroughS3ARepeatedMapperStartsOnlyTheReducersThatMissIt(t *testing.T) {
	r := idle()
	r.mode = exchange.S3
	end(t, r, Attempt{ID: mapper(0, 0)})
	r.reduces[0], r.reduces[1] = state{}, state{}
	r.running = 1
	end(t, r, Attempt{ID: mapper(1, 0)})
	started(r)
	if got := end(t, r, lost(reducer(0, 0), 1, 0)); got != "map1" {
		t.Errorf("after the loss: %q, want the mapper alone", got)
	}
	started(r)
	if got := end(t, r, Attempt{ID: mapper(1, 1)}); got != "reduce0" {
		t.Errorf("while reducer 1 is at work: %q", got)
	}
	started(r)
	end(t, r, Attempt{ID: reducer(1, 0)})
	end(t, r, lost(reducer(0, 1), 0, 0))
	started(r)
	if got := end(t, r, Attempt{ID: mapper(0, 1)}); got != "reduce0" {
		t.Errorf("when reducer 1 is done: %q", got)
	}
}

func TestALossOfNobodyKnowsWhomMeansTheNewestAttempt(t *testing.T) {
	r := idle()
	end(t, r, Attempt{ID: mapper(0, 0)})
	if got := end(t, r, lost(reducer(0, 0), 0)); got != "map0 reduce0" {
		t.Errorf("%q, want the mapper to run again", got)
	}
	if got := r.maps[0].replaces; len(got) != 1 || got[0] != 0 {
		t.Errorf("it replaces %v, want attempt 0", got)
	}
	started(r)
	// The other reducer began before attempt 1 did.
	late := lost(reducer(1, 0), 0)
	late.seen = []int{0, 0}
	if got := end(t, r, late); got != "reduce1" {
		t.Errorf("%q: attempt 1 is at work already", got)
	}
}

func TestAReducerMayLoseAnyNumberOfProducers(t *testing.T) {
	r := idle()
	r.maps = make([]state, 9)
	for i := range r.maps {
		r.maps[i] = state{attempts: 1, done: true}
	}
	r.running = 2
	for i := range r.maps {
		if got := end(t, r, lost(reducer(0, i), i, 0)); !strings.HasPrefix(got, "map") {
			t.Fatalf("after the loss of %d mappers: %q", i+1, got)
		}
		started(r)
	}
}

func TestAReducerThatKeepsMissingAMapperThatIsThereEnds(t *testing.T) {
	r := idle()
	got := ""
	for n := range 9 {
		if got = end(t, r, lost(reducer(0, n), 0, 0)); strings.Contains(got, "failed") {
			return
		}
		started(r)
	}
	t.Errorf("it goes on for ever: %q", got)
}

func TestAReplacedMapperIsNotWaitedFor(t *testing.T) {
	r := idle()
	var why error
	r.maps[1].live = map[int]context.CancelCauseFunc{0: func(err error) { why = err }}
	if got := end(t, r, lost(reducer(0, 0), 1, 0)); got != "map1 reduce0" {
		t.Errorf("%q", got)
	}
	if !errors.Is(why, errReplaced) {
		t.Errorf("the lost attempt was given up with %v", why)
	}
	started(r)
	before := r.running
	if got := end(t, r, Attempt{ID: mapper(1, 0), Error: why.Error()}); got != "" || r.maps[1].failures != 0 {
		t.Errorf("its end starts %q and counts as %d failures", got, r.maps[1].failures)
	}
	if r.running != before-1 || r.maps[1].running != 1 {
		t.Errorf("%d of %d run, %d of the mapper", r.running, before, r.maps[1].running)
	}
}

func TestAReplacedMapperThatKeepsItsPlaceUnderALimitFailsInOneLine(t *testing.T) {
	r := idle()
	r.cfg.Concurrency, r.limit = 4, 4
	r.cfg.Policy.TimeToLive = exchange.Never
	r.maps[1].live = map[int]context.CancelCauseFunc{0: func(error) { t.Error("it was let go") }}
	end(t, r, Attempt{ID: reducer(1, 0)})
	if end(t, r, lost(reducer(0, 0), 1, 0)); r.stuck() != nil {
		t.Errorf("while there is room: %v", r.stuck())
	}
	r.running = 4 // the mapper's next attempt, and one of another kind
	r.queue = r.queue[1:]
	err := r.stuck()
	if !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "concurrency of 4: raise it by 1") {
		t.Errorf("error %v", err)
	}
}

func TestAFailureIsToldAlsoWhileAnotherAttemptIsAtWork(t *testing.T) {
	r := idle()
	r.reduces[0].running++
	r.running++
	var told []Event
	r.cfg.OnEvent = func(e Event) { told = append(told, e) }
	if got := end(t, r, Attempt{ID: reducer(0, 0), Error: "crash"}); got != "" {
		t.Errorf("it starts %q", got)
	}
	if len(told) != 1 || told[0].Kind != TaskFailed || len(r.result.Notes) != 1 {
		t.Errorf("events %v, notes %q", told, r.result.Notes)
	}
}
