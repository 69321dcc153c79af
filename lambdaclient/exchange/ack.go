package exchange

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// ackTimeout bounds Ack as a whole.
	ackTimeout = 3 * time.Second
	acksAtOnce = 64
	// hangUpLag is how much later a link may end than its streams.
	hangUpLag = 200 * time.Millisecond
)

// Ack tells every producer that this consumer's output is committed, so that
// its partition need not be kept any more. It is best effort and bounded in
// time (3 s): a producer that cannot be reached stays for its time-to-live, no
// more. A link that broke is made anew for it, except to a producer whose
// partition came from S3: that one needs none. The error is that of ctx or
// [ErrClosed]; Report says who confirmed.
func (c *Consumer) Ack(ctx context.Context) error {
	if c.ctx.Err() != nil {
		return c.life()
	}
	c.mu.Lock()
	c.acked = true
	c.mu.Unlock()
	if c.col == nil {
		return nil
	}
	bound, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	stop := context.AfterFunc(c.ctx, cancel)
	defer stop()
	var wg sync.WaitGroup
	slots := make(chan struct{}, acksAtOnce)
	for _, t := range c.trackers {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			c.ackProducer(bound, t)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// ackProducer tells all attempts of a producer to which there is a link.
func (c *Consumer) ackProducer(ctx context.Context, t *tracker) {
	if c.ackLinks(ctx, t) || t.partitionReport().Source.Path == PathS3 {
		return
	}
	for attempt, p := range t.snapshot().peers {
		if p.down && !p.gone && c.connect(ctx, t, attempt, p.name) == nil && c.ackLinks(ctx, t) {
			return
		}
	}
}

func (c *Consumer) ackLinks(ctx context.Context, t *tracker) (confirmed bool) {
	t.mu.Lock()
	links := slices.Clone(t.links)
	t.mu.Unlock()
	for _, l := range links {
		if c.sendAck(ctx, t, l.link) == nil {
			confirmed = true
		} else {
			t.lostIfDone(l)
		}
	}
	return confirmed
}

// sendAck acknowledges over one link and waits for the confirmation.
func (c *Consumer) sendAck(ctx context.Context, t *tracker, l link) error {
	s, err := l.open(ctx)
	if err == nil {
		err = c.exchangeAck(ctx, t, s)
	}
	if err != nil && !hungUp(ctx, l, err) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.report.Acked, t.producer) {
		c.report.Acked = append(c.report.Acked, t.producer)
	}
	return nil
}

// hungUp tells whether an acknowledgement failed because the producer needed no more: one whom the last of them sets
// free may hang up before its answer is through. The stream may learn that a moment before the link does.
func hungUp(ctx context.Context, l link, err error) bool {
	if _, refused := errors.AsType[*refusedError](err); refused || errors.Is(err, ErrProtocol) {
		return false
	}
	if code, left := leaveCode(err); left {
		return code == closeDone
	}
	lag := time.NewTimer(hangUpLag)
	defer lag.Stop()
	select {
	case <-l.done():
		code, left := leaveCode(l.cause())
		return left && code == closeDone
	case <-lag.C:
	case <-ctx.Done():
	}
	return false
}

func (c *Consumer) exchangeAck(ctx context.Context, t *tracker, s stream) error {
	stop := context.AfterFunc(ctx, func() { s.CancelRead(streamEnded); s.CancelWrite(streamEnded) })
	defer stop()
	defer s.CancelRead(streamEnded)
	q := request{
		job: c.digest, producer: uint32(t.producer),
		partition: uint32(c.cfg.Consumer), consumerAttempt: uint32(c.cfg.Attempt),
	}
	if _, err := s.Write(q.frame(frameAck)); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	kind, b, err := readFrame(s, nil)
	switch {
	case err != nil:
		return err
	case kind == frameRefused:
		return parseRefused(b)
	case kind != frameAcked:
		return fmt.Errorf("%w: a frame of type %d answers an acknowledgement", ErrProtocol, kind)
	}
	return nil
}
