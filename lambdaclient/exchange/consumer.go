package exchange

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	defaultPatience   = 5 * time.Second
	defaultReconnects = 2
)

// Consumer reads one partition of every producer. Its methods may be called
// concurrently.
type Consumer struct {
	cfg      ConsumerConfig
	shuffle  Shuffle
	digest   uint64
	view     *storeView // nil in mode Direct
	col      collective // nil in mode S3
	trackers []*tracker

	ctx       context.Context
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	closeOnce sync.Once

	mu     sync.Mutex
	closed bool
	acked  bool // Ack was called: late links get one, too
	links  map[link]struct{}
	report ConsumerReport
}

// NewConsumer joins the collective and starts to make links. ctx bounds the
// consumer's whole life.
func NewConsumer(ctx context.Context, cfg ConsumerConfig) (*Consumer, error) {
	shuffle, err := cfg.Shuffle.withDefaults()
	if err != nil {
		return nil, err
	}
	if cfg.Consumer < 0 || cfg.Consumer >= shuffle.Consumers || cfg.Attempt < 0 || cfg.Attempt > maxAttempt {
		return nil, fmt.Errorf("exchange: consumer %d, attempt %d: of %d consumers there is none such", cfg.Consumer, cfg.Attempt, shuffle.Consumers)
	}
	if cfg.Mode, err = checkMode(cfg.Mode, cfg.Store, cfg.Network); err != nil {
		return nil, err
	}
	if cfg.Patience <= 0 {
		cfg.Patience = defaultPatience
	}
	if cfg.Reconnects == 0 {
		cfg.Reconnects = defaultReconnects
	}
	c := &Consumer{
		cfg: cfg, shuffle: shuffle, digest: jobDigest(shuffle.Job),
		links:  map[link]struct{}{},
		report: ConsumerReport{Consumer: cfg.Consumer, Attempt: cfg.Attempt},
	}
	for i := range shuffle.Producers {
		c.trackers = append(c.trackers, newTracker(i))
	}
	if cfg.Mode.usesStore() {
		c.view = newStoreView(cfg.Store)
	}
	c.ctx, c.cancel = context.WithCancel(ctx)
	if cfg.Mode.usesLinks() {
		if c.col, err = cfg.Network.join(c.ctx, shuffle.waitingFor(cfg.Attempt)); err != nil {
			c.cancel()
			return nil, fmt.Errorf("exchange: join collective %q: %w", shuffle.Collective, err)
		}
		c.wg.Go(c.followCollective)
	}
	return c, nil
}

// followCollective keeps the links of the collective as they come.
func (c *Consumer) followCollective() {
	for {
		ev, err := c.col.next(c.ctx)
		if err != nil {
			if c.ctx.Err() == nil {
				c.noteLink(LinkResult{Failure: err.Error()})
				for _, t := range c.trackers {
					t.noMore(err)
				}
			}
			return
		}
		if ev.err == nil {
			c.addLink(ev.link, false)
			continue
		}
		if t, attempt, ok := c.producerOf(ev.peer); ok {
			c.noteLink(LinkResult{Peer: ev.peer, Failure: ev.err.Error()})
			t.down(attempt, ev.peer, ev.err)
		}
	}
}

// producerOf reads a producer's index and attempt from its name.
func (c *Consumer) producerOf(peer string) (*tracker, int, bool) {
	i, attempt, ok := c.shuffle.ParseProducer(peer)
	if !ok || i < 0 || i >= len(c.trackers) || attempt < 0 || attempt > maxAttempt {
		return nil, 0, false
	}
	return c.trackers[i], attempt, true
}

// addLink keeps a link until it is lost or the consumer closed.
func (c *Consumer) addLink(l link, again bool) {
	t, attempt, ok := c.producerOf(l.peer())
	c.mu.Lock()
	if !ok || c.closed {
		c.mu.Unlock()
		l.close(closeGone, "no use for this link")
		return
	}
	c.links[l] = struct{}{}
	acked := c.acked
	c.mu.Unlock()
	c.noteLink(LinkResult{Peer: l.peer(), Again: again, Path: l.path(), Connect: l.connectDuration()})
	t.up(attempt, l)
	c.wg.Go(func() {
		if acked { // it joined after Ack had gone out
			ctx, cancel := context.WithTimeout(c.ctx, ackTimeout)
			_ = c.sendAck(ctx, t, l)
			cancel()
		}
		<-l.done() // at the latest when Close closes it
		t.lost(attempt, l, l.cause())
		c.mu.Lock()
		delete(c.links, l)
		c.mu.Unlock()
	})
}

// connect makes a link to a producer's attempt anew, and keeps it.
func (c *Consumer) connect(ctx context.Context, t *tracker, attempt int, peer string) error {
	c.mu.Lock()
	c.report.Retries++
	c.mu.Unlock()
	l, err := c.col.connect(ctx, peer)
	switch {
	case err == nil:
		c.addLink(l, true)
	case ctx.Err() == nil:
		c.noteLink(LinkResult{Peer: peer, Again: true, Failure: err.Error()})
		t.down(attempt, peer, err)
	}
	return err
}

func (c *Consumer) noteLink(r LinkResult) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.report.Links) < maxLinkResults {
		c.report.Links = append(c.report.Links, r)
	}
}

// Report says what has happened so far.
func (c *Consumer) Report() ConsumerReport {
	c.mu.Lock()
	r := c.report
	r.Links = slices.Clone(r.Links)
	r.Acked = slices.Clone(r.Acked)
	c.mu.Unlock()
	slices.Sort(r.Acked)
	if c.view != nil {
		r.S3 = c.view.usage.snapshot()
	}
	for _, t := range c.trackers {
		r.Partitions = append(r.Partitions, t.partitionReport())
	}
	return r
}

// Close ends all reads, leaves the collective and closes the links. Readers
// need not be closed before.
func (c *Consumer) Close() error {
	var err error
	c.closeOnce.Do(func() {
		c.mu.Lock()
		c.closed = true // no link is added from here on
		links := make([]link, 0, len(c.links))
		for l := range c.links {
			links = append(links, l)
		}
		c.mu.Unlock()
		c.cancel()
		for _, l := range links {
			l.close(0, "the consumer is done")
		}
		if c.col != nil {
			err = c.col.leave()
		}
	})
	c.wg.Wait()
	return err
}

// life gives why the consumer's context has ended.
func (c *Consumer) life() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	return context.Cause(c.ctx)
}
