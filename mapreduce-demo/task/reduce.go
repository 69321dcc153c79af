package task

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bradawl/bradawl/lambdaclient/exchange"
	"github.com/bradawl/bradawl/mapreduce-demo/mapreduce"
)

// maxRestarts bounds how often a reduce task begins again because a producer's
// next attempt gave other bytes. Damaged bytes are not counted here.
const maxRestarts = 3

// runReduce merges the partition, commits the output and acknowledges.
func (t *running) runReduce(ctx context.Context) error {
	key := PartKey(t.Run, t.Index)
	if t.Attempt > 0 {
		// An earlier attempt may have been cut down between commit and answer.
		there, err := t.store.Exists(ctx, key)
		if err != nil {
			return err
		}
		if there {
			t.report.Output = &Output{Key: key}
			return nil
		}
	}
	network, err := t.signIn(ctx)
	if err != nil {
		return err
	}
	consumer, err := exchange.NewConsumer(ctx, exchange.ConsumerConfig{
		Shuffle: t.shuffle(), Consumer: t.Index, Attempt: t.Attempt,
		Mode: t.Mode, Store: t.exchangeStore(), Network: network,
	})
	if err != nil {
		return err
	}
	defer func() {
		report := consumer.Report()
		t.report.Consumer = &report
		t.report.Phases.Punch = slowest(report.Links)
		consumer.Close()
	}()
	if err := t.pass(ctx, Joined); err != nil {
		return err
	}
	out := new(spool)
	defer func() { out.Close() }()
	for differed := 0; ; {
		err := t.merge(ctx, consumer, out)
		if err == nil {
			break
		}
		again := false
		if restart := (*exchange.RestartError)(nil); errors.As(err, &restart) {
			again = differed < maxRestarts
			differed++
		} else if damaged := (*exchange.ChecksumError)(nil); errors.As(err, &damaged) {
			// No bound is needed: a source that gave wrong bytes twice is not asked
			// again, and when none is left the producer is lost.
			again = true
		}
		if !again {
			return err
		}
		t.report.Restarts++
		t.tell(Event{Note: err.Error()})
		out.Close()
		out = new(spool)
	}
	if err := t.pass(ctx, Reduced); err != nil {
		return err
	}
	return t.commit(ctx, consumer, key, out)
}

// merge reads the partition of every producer at once and reduces it into out.
func (t *running) merge(ctx context.Context, consumer *exchange.Consumer, out *spool) error {
	if err := t.pass(ctx, Opening); err != nil {
		return err
	}
	start := time.Now()
	sources := make([]*source, t.Mappers)
	defer func() {
		for _, s := range sources {
			if s != nil {
				s.Close()
			}
		}
	}()
	// Opening ends early at the first failure; a reader lives on after it.
	opening, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var group errgroup.Group
	for i := range sources {
		group.Go(func() error {
			r, err := consumer.Open(opening, i)
			if err != nil {
				err = fmt.Errorf("partition of mapper %d: %w", i, err)
				stop(err)
				return err
			}
			sources[i] = &source{Reader: r}
			return nil
		})
	}
	err := group.Wait()
	if cause := context.Cause(opening); cause != nil {
		err = cause // the first failure, not those that follow from it
	}
	t.report.Phases.Wait += time.Since(start)
	if err != nil {
		return err
	}
	if err := t.pass(ctx, Opened); err != nil {
		return err
	}
	start = time.Now()
	var blocked blockedTime
	readers := make([]io.Reader, len(sources))
	for i, s := range sources {
		s.blocked = &blocked
		readers[i] = s
	}
	stats, err := t.job.RunReduce(ctx, readers, &midway{spool: out, pass: func() error { return t.pass(ctx, Midway) }})
	t.report.Reduce = &stats
	waited := blocked.total
	t.report.Phases.Transfer += waited
	t.report.Phases.Reduce += max(0, time.Since(start)-waited)
	if err != nil {
		err = verdict(ctx, err, sources)
	}
	return err
}

// verdict says what a failed reduction is due to. What a partition gives is
// provisional until its end, where it is found whole or not. Wrong bytes may make
// no sense before that, to the merge or to the job. So the partition in question,
// or each if that is not known, is read to its end, and what is said there counts.
func verdict(ctx context.Context, err error, sources []*source) error {
	var run *mapreduce.RunError
	switch {
	case ctx.Err() != nil:
		return err
	case errors.As(err, &run):
		if !errors.Is(err, mapreduce.ErrCorrupt) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err // it is the partition's own word
		}
		sources = sources[run.Run : run.Run+1]
	}
	for _, s := range sources {
		if _, end := io.Copy(io.Discard, s.Reader); end != nil {
			return end
		}
	}
	return err
}

// commit stores the output, if no other attempt did, and acknowledges.
func (t *running) commit(ctx context.Context, consumer *exchange.Consumer, key string, out *spool) error {
	start := time.Now()
	defer func() { t.report.Phases.Commit = time.Since(start) }()
	body, err := out.reader()
	if err != nil {
		return err
	}
	written, err := t.store.PutOnce(ctx, key, body, out.size)
	if err != nil {
		return err
	}
	t.report.Output = &Output{Key: key, Bytes: out.size, Written: written}
	if err := t.pass(ctx, Committed); err != nil {
		return err
	}
	// The output is safe: an acknowledgement that does not get through only makes
	// producers stay longer.
	if err := consumer.Ack(ctx); err != nil {
		t.tell(Event{Note: "acknowledge: " + err.Error()})
	}
	return nil
}

// blockedTime adds up the time in which at least one source waits for bytes.
type blockedTime struct {
	mu      sync.Mutex
	waiting int
	since   time.Time
	total   time.Duration
}

func (b *blockedTime) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting == 0 {
		b.since = time.Now()
	}
	b.waiting++
}

func (b *blockedTime) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting--; b.waiting == 0 {
		b.total += time.Since(b.since)
	}
}

// source measures how long the merge waits for a partition's bytes.
type source struct {
	*exchange.Reader
	blocked *blockedTime
}

// Read reads from the partition.
func (s *source) Read(p []byte) (int, error) {
	s.blocked.begin()
	defer s.blocked.end()
	return s.Reader.Read(p)
}

// midway is an output that tells of its first bytes.
type midway struct {
	*spool
	once sync.Once
	pass func() error
}

// Write adds to the output.
func (m *midway) Write(p []byte) (int, error) {
	var err error
	m.once.Do(func() { err = m.pass() })
	if err != nil {
		return 0, err
	}
	return m.spool.Write(p)
}
