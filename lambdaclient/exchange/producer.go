package exchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

const defaultMemory = 256 << 20

// Producer holds the partitions of one attempt and brings them to their
// consumers. Its methods may be called concurrently, except that one
// partition has one writer at a time.
type Producer struct {
	cfg     ProducerConfig
	shuffle Shuffle
	digest  uint64
	arena   *arena
	parts   []*partition
	view    *storeView // nil in mode Direct
	col     collective // nil in mode S3

	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	finished chan struct{} // closed by Finish: the partitions are constant
	durable  chan struct{} // closed when written, or given up
	over     chan struct{} // closed when the policy lets the producer go
	kick     chan struct{} // the situation has changed

	finishOnce, closeOnce sync.Once
	finishErr             error

	began time.Time // of the work

	mu         sync.Mutex
	expected   time.Time // of the last acknowledgement
	finishedAt time.Time
	leftAt     time.Time
	deadline   time.Time
	consumers  []consumerState
	links      map[link]int // live ones, with their consumer
	sync       syncState
	closed     bool
	outcome    error
	report     ProducerReport
}

// consumerState is what a producer knows of one consumer.
type consumerState struct {
	ackedAt time.Time // zero: not yet
	written bool      // it is part of what was saved
	live    int       // links
	failed  bool      // a link failed, and none came up since
}

func (c *consumerState) acked() bool { return !c.ackedAt.IsZero() }

// syncState is how far the write to S3 has come.
type syncState struct {
	running, done, permanent bool
	at                       time.Time // of the end, if done
	tries                    int       // that failed
	retryAt                  time.Time
	err                      error
}

// NewProducer joins the collective and starts to make links; the links come
// up while the caller still writes. ctx bounds the producer's whole life: its
// end stops all work, and its deadline is that of the deadline rule.
func NewProducer(ctx context.Context, cfg ProducerConfig) (*Producer, error) {
	shuffle, err := cfg.Shuffle.withDefaults()
	if err != nil {
		return nil, err
	}
	if cfg.Producer < 0 || cfg.Producer >= shuffle.Producers || cfg.Attempt < 0 || cfg.Attempt > maxAttempt {
		return nil, fmt.Errorf("exchange: producer %d, attempt %d: of %d producers there is none such", cfg.Producer, cfg.Attempt, shuffle.Producers)
	}
	if cfg.Mode, err = checkMode(cfg.Mode, cfg.Store, cfg.Network); err != nil {
		return nil, err
	}
	if cfg.Policy, err = cfg.Policy.withDefaults(); err != nil {
		return nil, err
	}
	if cfg.Since.IsZero() {
		cfg.Since = time.Now()
	}
	if cfg.MemoryBudget <= 0 {
		cfg.MemoryBudget = defaultMemory
	}
	p := &Producer{
		cfg: cfg, shuffle: shuffle, digest: jobDigest(shuffle.Job), began: cfg.Since,
		arena:    &arena{budget: cfg.MemoryBudget},
		finished: make(chan struct{}), durable: make(chan struct{}), over: make(chan struct{}),
		kick:      make(chan struct{}, 1),
		consumers: make([]consumerState, shuffle.Consumers),
		links:     map[link]int{},
	}
	p.parts = make([]*partition, shuffle.Consumers)
	for i := range p.parts {
		p.parts[i] = &partition{arena: p.arena}
	}
	p.report = ProducerReport{Producer: cfg.Producer, Attempt: cfg.Attempt, Partitions: shuffle.Consumers}
	if cfg.Mode.usesStore() {
		p.view = newStoreView(cfg.Store)
	}
	p.deadline, _ = ctx.Deadline()
	p.ctx, p.cancel = context.WithCancel(ctx)
	if cfg.Mode.usesLinks() {
		if p.col, err = cfg.Network.join(p.ctx, shuffle.waitingFor(cfg.Attempt)); err != nil {
			p.cancel()
			return nil, fmt.Errorf("exchange: join collective %q: %w", shuffle.Collective, err)
		}
		p.wg.Go(p.followCollective)
		p.wg.Go(p.acceptLinks)
	}
	return p, nil
}

// checkMode applies the default, and checks that the mode has what it needs.
func checkMode(m Mode, store *S3Store, network Network) (Mode, error) {
	if m == "" {
		m = Auto
	}
	if _, err := ParseMode(string(m)); err != nil {
		return m, err
	}
	if m.usesLinks() && network == nil {
		return m, fmt.Errorf("exchange: mode %s needs a Network", m)
	}
	if m.usesStore() {
		return m, store.check()
	}
	return m, nil
}

// Partition gives the writer of partition i, 0 <= i < Shuffle.Consumers; it
// panics for others, as a slice would. The same i gives the same writer. Close
// of it is optional; Finish closes all.
func (p *Producer) Partition(i int) io.WriteCloser { return p.parts[i] }

// Finish ends all partitions and begins to serve them. The clocks of the
// policy start here. With write-through (and in mode S3) it returns when all
// is durable on S3, or with why it is not; the partitions are served over
// links in any case. If a write to a partition had failed, it gives that error
// and nothing is served: the attempt is void.
func (p *Producer) Finish(ctx context.Context) error {
	p.finishOnce.Do(func() { p.finishErr = p.finish() })
	if p.finishErr != nil {
		return p.finishErr
	}
	if through := (&situation{mode: p.cfg.Mode, policy: p.cfg.Policy}).writeThrough(); !through {
		return nil
	}
	select {
	case <-p.durable:
	case <-p.over:
	case <-ctx.Done():
		return fmt.Errorf("exchange: write through to S3: %w", context.Cause(ctx))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sync.done || p.unackedLocked() == 0 {
		return nil
	}
	if p.sync.err != nil {
		return p.sync.err
	}
	return p.unsavedLocked(context.Cause(p.ctx))
}

func (p *Producer) finish() error {
	if p.ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrClosed, context.Cause(p.ctx))
	}
	size, errs := int64(0), []error(nil)
	for i, part := range p.parts {
		if err := part.Close(); err != nil {
			errs = append(errs, fmt.Errorf("partition %d: %w", i, err))
		}
		size += part.size
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	p.mu.Lock()
	p.finishedAt = time.Now()
	p.report.Bytes, p.report.Spilled = size, p.arena.spilledBytes()
	p.mu.Unlock()
	close(p.finished)
	p.wg.Go(p.run)
	return nil
}

// Wait stays until all consumers have acknowledged, or the policy lets the
// producer go with everything durable. A deadline of ctx is heeded like that
// of NewProducer. If data had to be left behind unsaved the error is an
// [*UnsavedError]; the report is right in any case. Call Close afterwards.
func (p *Producer) Wait(ctx context.Context) (ProducerReport, error) {
	select {
	case <-p.finished:
	default:
		return p.Report(), errors.New("exchange: Wait was called before Finish had succeeded")
	}
	if d, ok := ctx.Deadline(); ok {
		p.mu.Lock()
		if p.deadline.IsZero() || d.Before(p.deadline) {
			p.deadline = d
		}
		p.mu.Unlock()
		p.wake()
	}
	var err error
	select {
	case <-p.over:
		p.mu.Lock()
		err = p.outcome
		p.mu.Unlock()
	case <-ctx.Done():
		p.mu.Lock()
		err = p.unsavedLocked(context.Cause(ctx))
		p.mu.Unlock()
	}
	return p.Report(), err
}

// Close gives up what is not saved, leaves the collective, closes the links
// and frees the memory. Call it after Wait, always.
func (p *Producer) Close() error {
	var err error
	p.closeOnce.Do(func() {
		p.mu.Lock()
		code, why := farewell(!p.finishedAt.IsZero(), p.unackedLocked(), p.sync.done)
		p.closed = true // no link is added from here on
		links := make([]link, 0, len(p.links))
		for l := range p.links {
			links = append(links, l)
		}
		p.mu.Unlock()
		for _, l := range links { // before their streams are cut off
			l.close(code, why)
		}
		p.cancel()
		if p.col != nil {
			err = p.col.leave()
		}
		p.wg.Wait()
		err = errors.Join(err, p.arena.close())
	})
	p.wg.Wait()
	return err
}

func (p *Producer) unackedLocked() int {
	n := 0
	for _, c := range p.consumers {
		if !c.acked() {
			n++
		}
	}
	return n
}

// unsavedLocked is the error of leaving now; nil if nothing is lost.
func (p *Producer) unsavedLocked(why error) error {
	if p.sync.done {
		return nil
	}
	e := &UnsavedError{Err: why}
	for i, c := range p.consumers {
		if !c.acked() {
			e.Partitions = append(e.Partitions, i)
		}
	}
	if len(e.Partitions) == 0 {
		return nil
	}
	return e
}

func (p *Producer) wake() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}
