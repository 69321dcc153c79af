package driver

import (
	"errors"
	"fmt"
	"slices"

	"github.com/bradawl/bradawl/lambdaclient/exchange"
	"github.com/bradawl/bradawl/mapreduce-demo/task"
)

// errReplaced is why the driver waits for an attempt no more.
var errReplaced = errors.New("its partitions were lost, another attempt replaces it")

// handleLost runs a producer again whose data is lost, and the reducer that
// missed it. That is no failure of the reducer: what bounds it are the attempts
// of the producer, and how often one reducer may miss the same one.
func (r *run) handleLost(a Attempt) error {
	if a.lost.Producer < 0 || a.lost.Producer >= len(r.maps) {
		return fmt.Errorf("%w: %s misses mapper %d, and there is none", ErrFailed, a.ID, a.lost.Producer)
	}
	reducer := r.state(a.ID)
	id := task.ID{Kind: task.Map, Index: a.lost.Producer}
	producer := r.state(id)
	if reducer.missed == nil {
		reducer.missed = map[int]int{}
	}
	reducer.missed[id.Index]++
	useless := a.lost.Attempts
	if len(useless) == 0 {
		// The reducer cannot tell whose data it missed, as where a commit record
		// cannot be read: it is that of the attempt that was the newest then.
		newest := producer.attempts - 1
		if id.Index < len(a.seen) {
			newest = a.seen[id.Index]
		}
		useless = []int{newest}
	}
	for _, attempt := range useless {
		if attempt >= 0 && !slices.Contains(producer.replaces, attempt) {
			producer.replaces = append(producer.replaces, attempt)
		}
	}
	// A newer attempt than those that were seen may be on its way, or done meanwhile.
	newest := slices.Max(useless)
	newer := producer.queued || producer.attempts-1 > newest && (producer.running > 0 || producer.done)
	what := fmt.Sprintf("a newer attempt of mapper %d is there", id.Index)
	if !newer && producer.attempts >= r.cfg.MaxAttempts || reducer.missed[id.Index] > r.cfg.MaxAttempts {
		r.emit(Event{Kind: TaskFailed, ID: a.ID, Note: a.Error})
		return fmt.Errorf("%w: mapper %d ran %d times and was lost to %s each time, last with: %s",
			ErrFailed, id.Index, producer.attempts, a.ID, a.Error)
	}
	if !newer {
		r.loss = r.loss.Learn(producer.abandon(newest, r.cfg.Concurrency == 0), 0)
		producer.done = false
		r.enqueue(id)
		what = fmt.Sprintf("mapper %d runs again as attempt %d", id.Index, producer.attempts)
	}
	// Through S3 a reducer waits until all mappers are done, as at first.
	if !reducer.queued && reducer.running == 0 && (r.mode != exchange.S3 || allDone(r.maps)) {
		r.enqueue(a.ID)
	}
	r.failed(a, fmt.Sprintf("%s; %s, and the reducer as attempt %d", a.Error, what, reducer.attempts))
	return nil
}

// abandon gives up the attempts up to newest that are still at work. They may
// never come back: one that is cut off from the network stays until its time is
// over. Without a limit on concurrency the driver does not wait for them either;
// with one, they hold their place in it, as they do at Lambda. It returns how many
// were given up.
func (s *state) abandon(newest int, letGo bool) (given int) {
	for attempt, cancel := range s.live {
		if attempt > newest || s.abandoned[attempt] {
			continue
		}
		if s.abandoned == nil {
			s.abandoned = map[int]bool{}
		}
		s.abandoned[attempt] = true
		s.running--
		given++
		if letGo {
			cancel(errReplaced)
		}
	}
	return given
}

// stuck finds the state in which nothing will ever end: mappers that stay for
// reducers fill the limit, and the reducers find no room.
func (r *run) stuck() error {
	if r.cfg.Concurrency == 0 { // nobody waits for the replaced
		return nil
	}
	if len(r.queue) == 0 || r.running < r.limit || r.mode == exchange.S3 || r.cfg.Policy.TimeToLive != exchange.Never {
		return nil
	}
	replaced := 0
	for _, s := range r.maps {
		for attempt := range s.live {
			if s.abandoned[attempt] {
				replaced++
			}
		}
	}
	atWork := func(s state) bool { return s.running > 0 }
	if replaced == 0 || slices.ContainsFunc(r.reduces, atWork) {
		return nil
	}
	return fmt.Errorf("%w: %d mappers that were lost and replaced still hold their places, so that %d tasks find none in a concurrency of %d: raise it by %d, or shuffle through S3",
		ErrFailed, replaced, len(r.queue), r.limit, len(r.queue))
}
