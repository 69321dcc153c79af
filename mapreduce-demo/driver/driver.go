package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/bradawl/bradawl/lambdaclient/exchange"
	"github.com/bradawl/bradawl/mapreduce-demo/input"
	"github.com/bradawl/bradawl/mapreduce-demo/store"
	"github.com/bradawl/bradawl/mapreduce-demo/task"
)

// Config is what a run needs.
type Config struct {
	// Lambda invokes Function.
	Lambda   *lambda.Client
	Function string
	// Store is the bucket in which the input lies and everything else goes.
	Store *store.Store
	// Job is the job's name, Run a fresh id for this run of it.
	Job, Run string
	// Rendezvous is the connection string for the workers; not needed in mode S3.
	Rendezvous task.Secret
	Mode       exchange.Mode
	// Policy is for the first attempts of mappers. Later ones write through, where
	// the mode lets them write at all. Its Loss is where the run's own experience
	// starts from, which goes with each attempt that is started.
	Policy exchange.Policy
	// Splits are the mappers' inputs, one for each.
	Splits   []input.Split
	Reducers int
	// MaxAttempts is how often a task may be tried. 0: 4.
	MaxAttempts int
	// Concurrency is how many invocations may run at once. 0: as many as there are tasks.
	Concurrency int
	// Hold says at which points an attempt waits to be released. Nil: nowhere.
	Hold func(id task.ID) []task.Point
	// OnEvent is told what happens, one call at a time, if not nil. It must return quickly.
	OnEvent func(Event)
}

// EventKind says what an Event tells.
type EventKind string

// The kinds of events.
const (
	// TaskStarted: an attempt was invoked.
	TaskStarted EventKind = "started"
	// TaskDone: a task succeeded for the first time.
	TaskDone EventKind = "done"
	// TaskFailed: an attempt failed; Note says why and what follows.
	TaskFailed EventKind = "failed"
	// Noted: something else happened that the reader of the result should know.
	Noted EventKind = "note"
)

// Event is something that happened in a run.
type Event struct {
	Kind EventKind
	ID   task.ID // zero for Noted
	Note string
}

// Result is what a run did.
type Result struct {
	Run  string        `json:"run"`
	Mode exchange.Mode `json:"mode"`
	// Wall is from the first invocation until _SUCCESS was written.
	Wall     time.Duration `json:"wall_ns"`
	Mappers  int           `json:"mappers"`
	Reducers int           `json:"reducers"`
	// Attempts are all invocations in the order in which they ended.
	Attempts []Attempt `json:"attempts"`
	// Notes tell what went another way than planned.
	Notes []string `json:"notes,omitempty"`
	// Parts are the keys of the outputs, in order of the reducers.
	Parts []string `json:"parts"`
}

// ErrFailed is wrapped by the error of a run that could not finish.
var ErrFailed = errors.New("the job failed")

// Run runs all tasks. The result says what was done also where there is an error.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if len(cfg.Splits) == 0 || cfg.Reducers < 1 {
		return nil, fmt.Errorf("%w: it needs at least one mapper and one reducer", ErrFailed)
	}
	if cfg.MaxAttempts == 0 {
		cfg.MaxAttempts = 4
	}
	// Whatever still runs when the run is over is of no use to it.
	ctx, cancel := context.WithCancel(ctx)
	r := &run{
		cfg: cfg, mode: cfg.Mode, limit: cfg.Concurrency, loss: cfg.Policy.Loss,
		ended:  make(chan Attempt),
		result: &Result{Run: cfg.Run, Mappers: len(cfg.Splits), Reducers: cfg.Reducers},
	}
	tasks := len(cfg.Splits) + cfg.Reducers
	if r.limit == 0 {
		r.limit = tasks
	}
	if r.limit < tasks && r.mode != exchange.S3 {
		r.note("%d mappers and %d reducers do not fit into a concurrency of %d at once: the shuffle goes through S3 instead of %s links",
			len(cfg.Splits), cfg.Reducers, r.limit, r.mode)
		r.mode = exchange.S3
	}
	r.result.Mode = r.mode
	start := time.Now()
	err := r.loop(ctx)
	r.result.Wall = time.Since(start)
	if err == nil {
		err = r.succeed(ctx)
		r.result.Wall = time.Since(start)
	}
	if err == nil {
		r.settle(ctx)
	}
	cancel()
	for r.running > 0 {
		r.take(<-r.ended)
	}
	return r.result, err
}

// settleTime is how long mappers may take to come back once all outputs are committed.
const settleTime = 5 * time.Second

// settle waits for the answers of mappers, which leave when they see that all is done.
func (r *run) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for r.running > 0 {
		select {
		case a := <-r.ended:
			r.take(a)
		case <-ctx.Done():
			r.note("%d invocations had not come back %v after the last output was committed", r.running, settleTime)
			return
		}
	}
}

// succeed writes the marker: all parts are there.
func (r *run) succeed(ctx context.Context) error {
	if err := r.cfg.Store.Put(ctx, task.SuccessKey(r.cfg.Run), nil); err != nil {
		return fmt.Errorf("%w: %w", ErrFailed, err)
	}
	for i := range r.cfg.Reducers {
		r.result.Parts = append(r.result.Parts, task.PartKey(r.cfg.Run, i))
	}
	return nil
}

// state is what the driver knows of one task.
type state struct {
	attempts int  // started so far; also the next attempt's number
	failures int  // attempts that failed by themselves
	running  int  // attempts that have not ended
	done     bool // succeeded once
	queued   bool // waits to be started
	replaces []int
	// live ends the wait for each attempt that has not ended; abandoned are
	// those that were replaced, they count in running no more.
	live      map[int]context.CancelCauseFunc
	abandoned map[int]bool
	missed    map[int]int // how often a reducer lost each mapper
}

// run is a run at work. One goroutine owns it.
type run struct {
	cfg     Config
	mode    exchange.Mode
	limit   int
	maps    []state
	reduces []state
	queue   []task.ID // to be started, oldest first; without attempt
	running int
	ended   chan Attempt
	result  *Result
	loss    exchange.Loss // what the run has seen of it
}

func (r *run) note(format string, args ...any) {
	note := fmt.Sprintf(format, args...)
	r.result.Notes = append(r.result.Notes, note)
	r.emit(Event{Kind: Noted, Note: note})
}

func (r *run) emit(e Event) {
	if r.cfg.OnEvent != nil {
		r.cfg.OnEvent(e)
	}
}

// state finds a task.
func (r *run) state(id task.ID) *state {
	if id.Kind == task.Map {
		return &r.maps[id.Index]
	}
	return &r.reduces[id.Index]
}

func allDone(tasks []state) bool {
	return !slices.ContainsFunc(tasks, func(s state) bool { return !s.done })
}

// loop runs until every reducer's output is committed.
func (r *run) loop(ctx context.Context) error {
	r.maps = make([]state, len(r.cfg.Splits))
	r.reduces = make([]state, r.cfg.Reducers)
	for i := range r.maps {
		r.enqueue(task.ID{Kind: task.Map, Index: i})
	}
	if r.mode != exchange.S3 {
		r.enqueueReduces()
	}
	for !allDone(r.reduces) {
		for len(r.queue) > 0 && r.running < r.limit {
			r.start(ctx)
		}
		if err := r.stuck(); err != nil {
			return err
		}
		select {
		case a := <-r.ended:
			r.take(a)
			if err := r.handle(a); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// enqueueReduces starts the reducers that are neither done nor at work.
func (r *run) enqueueReduces() {
	for i, s := range r.reduces {
		if s.done || s.running > 0 {
			continue
		}
		r.enqueue(task.ID{Kind: task.Reduce, Index: i})
	}
}

// enqueue has a task started as soon as there is room, unless it waits already.
func (r *run) enqueue(id task.ID) {
	if s := r.state(id); !s.queued {
		s.queued = true
		r.queue = append(r.queue, task.ID{Kind: id.Kind, Index: id.Index})
	}
}

// start invokes the task that waits longest.
func (r *run) start(ctx context.Context) {
	id := r.queue[0]
	r.queue = r.queue[1:]
	s := r.state(id)
	id.Attempt = s.attempts
	s.attempts++
	s.running++
	s.queued = false
	r.running++
	p := task.Payload{
		ID: id, Job: r.cfg.Job, Run: r.cfg.Run,
		Mappers: len(r.maps), Reducers: len(r.reduces),
		Bucket: r.cfg.Store.Bucket(), Mode: r.mode, Policy: r.cfg.Policy,
		Replaces: s.replaces,
	}
	p.Policy.Loss = r.loss
	if id.Kind == task.Map {
		p.Split = r.cfg.Splits[id.Index]
		if id.Attempt > 0 {
			// What was lost once is not risked again: the attempt writes through. Reducers
			// find it on S3 even where no link to it comes about any more.
			p.Policy.TimeToSync = 0
		}
	}
	if r.mode != exchange.S3 {
		p.Rendezvous = r.cfg.Rendezvous
	}
	if r.cfg.Hold != nil {
		p.Hold = r.cfg.Hold(id)
	}
	r.emit(Event{Kind: TaskStarted, ID: id})
	seen := make([]int, len(r.maps))
	for i := range r.maps {
		seen[i] = r.maps[i].attempts - 1
	}
	ctx, cancel := context.WithCancelCause(ctx)
	if s.live == nil {
		s.live = map[int]context.CancelCauseFunc{}
	}
	s.live[id.Attempt] = cancel
	go func() {
		a := r.invoke(ctx, p)
		cancel(nil)
		a.seen = seen
		r.ended <- a
	}()
}

// take books an attempt that has ended.
func (r *run) take(a Attempt) {
	r.running--
	s := r.state(a.ID)
	delete(s.live, a.Attempt)
	if !s.abandoned[a.Attempt] {
		s.running--
		lost := 0
		if a.Report == nil { // not even its failure came back
			lost = 1
		}
		r.loss = r.loss.Learn(lost, a.Billing.Billed)
	}
	r.result.Attempts = append(r.result.Attempts, a)
}

// handle decides what follows from the end of an attempt.
func (r *run) handle(a Attempt) error {
	s := r.state(a.ID)
	if s.abandoned[a.Attempt] {
		return nil // what it did is of no use, and that it is replaced was told
	}
	if a.Error == "" {
		if s.done {
			return nil // its success is recorded already
		}
		s.done = true
		r.emit(Event{Kind: TaskDone, ID: a.ID})
		if a.Kind == task.Map && r.mode == exchange.S3 && allDone(r.maps) {
			r.enqueueReduces()
		}
		return nil
	}
	if s.done {
		return nil // another attempt has done the work
	}
	if a.lost != nil {
		return r.handleLost(a)
	}
	s.failures++
	if a.final || s.failures >= r.cfg.MaxAttempts {
		return r.fail(a, s.failures)
	}
	if s.running > 0 || s.queued {
		r.failed(a, a.Error+"; another attempt is at work already")
		return nil
	}
	r.enqueue(a.ID)
	r.failed(a, fmt.Sprintf("%s; runs again as attempt %d", a.Error, s.attempts))
	return nil
}

func (r *run) failed(a Attempt, note string) {
	r.result.Notes = append(r.result.Notes, fmt.Sprintf("%s: %s", a.ID, note))
	r.emit(Event{Kind: TaskFailed, ID: a.ID, Note: note})
}

// fail gives up.
func (r *run) fail(a Attempt, failures int) error {
	r.emit(Event{Kind: TaskFailed, ID: a.ID, Note: a.Error})
	if failures == 1 {
		return fmt.Errorf("%w: %s %d: %s", ErrFailed, a.Kind, a.Index, a.Error)
	}
	return fmt.Errorf("%w: %s %d failed %d times, last with: %s", ErrFailed, a.Kind, a.Index, failures, a.Error)
}
