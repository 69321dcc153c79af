package exchange

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// storeGrace is how long mode Auto gives the links of a producer that was
	// not seen yet, before it asks S3.
	storeGrace    = time.Second
	firstPoll     = 100 * time.Millisecond
	maxPoll       = 2 * time.Second
	asksPerLink   = 3
	connectSpread = 50 * time.Millisecond
)

// position is how far a read has come.
type position struct {
	attempt int // -1: nothing was read yet
	off     int64
}

// offsetFor is where to begin with the given attempt.
func (p position) offsetFor(attempt int) int64 {
	if attempt == p.attempt {
		return p.off
	}
	return 0
}

// search finds the source to go on from: it asks every usable link, makes
// broken ones anew, and polls for the commit record; the first answer wins.
// All its state belongs to the goroutine of find.
type search struct {
	c       *Consumer
	t       *tracker
	pos     position
	began   time.Time
	results chan result
	wg      sync.WaitGroup

	asking  map[link]bool
	asks    map[link]int
	refused map[link]error

	polling  bool
	pollAt   time.Time // zero: as soon as S3's turn has come
	polls    int
	polled   time.Time // when the last poll that ended had begun
	pollOver error     // S3 cannot help, for good
	// unusable is why the record that was found does not help; it shows, too,
	// that its producer has left.
	unusable   error
	unusableAt time.Time

	connecting bool
	tries      map[int]int
	nextTry    map[int]time.Time
}

type resultKind uint8

const (
	resultAsk resultKind = iota
	resultPoll
	resultConnect
)

type result struct {
	kind    resultKind
	link    trackedLink
	attempt int
	began   time.Time
	feed    *feed
	err     error
}

// find gives a feed that is tied to ctx.
func (c *Consumer) find(ctx context.Context, t *tracker, pos position) (*feed, error) {
	s := &search{
		c: c, t: t, pos: pos, began: time.Now(), results: make(chan result),
		asking: map[link]bool{}, asks: map[link]int{}, refused: map[link]error{},
		tries: map[int]int{}, nextTry: map[int]time.Time{},
	}
	inner, cancel := context.WithCancel(ctx)
	defer s.wg.Wait()
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		v := t.snapshot()
		now := time.Now()
		links := s.ask(inner, v)
		s.reconnect(inner, v, links, now)
		s.poll(inner, v, links, now)
		wake, err := s.judge(v, links, now)
		if err != nil {
			return nil, err
		}
		if wake.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(max(time.Until(wake), 0))
		}
		select {
		case <-v.changed:
		case <-timer.C:
		case r := <-s.results:
			if r.feed != nil {
				r.feed.hold(ctx)
				return r.feed, nil
			}
			s.note(r)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// start runs f in the background. A feed that comes too late is closed.
func (s *search) start(ctx context.Context, r result, f func() (*feed, error)) {
	r.began = time.Now()
	s.wg.Go(func() {
		r.feed, r.err = f()
		select {
		case s.results <- r:
		case <-ctx.Done():
			if r.feed != nil {
				r.feed.close()
			}
		}
	})
}

// ask sends requests over links that have none yet, and counts the usable ones.
func (s *search) ask(ctx context.Context, v trackerView) (usable int) {
	for _, l := range v.links {
		if s.refused[l.link] != nil {
			continue
		}
		usable++
		if s.asking[l.link] {
			continue
		}
		s.asking[l.link] = true
		s.asks[l.link]++
		s.start(ctx, result{kind: resultAsk, link: l}, func() (*feed, error) {
			return s.c.ask(ctx, s.t, l, s.pos.offsetFor(l.attempt))
		})
	}
	return usable
}

// reconnect makes broken links anew: quickly at first, and then now and then,
// to learn whether the producer is gone.
func (s *search) reconnect(ctx context.Context, v trackerView, usable int, now time.Time) {
	if usable > 0 || s.connecting || s.c.col == nil || v.ended != nil {
		return
	}
	for attempt, p := range v.peers {
		if !p.down || p.gone || now.Before(s.tryAt(attempt, p)) || s.hopeless(attempt) {
			continue
		}
		s.connecting = true
		s.tries[attempt]++
		s.start(ctx, result{kind: resultConnect, attempt: attempt}, func() (*feed, error) {
			return nil, s.c.connect(ctx, s.t, attempt, p.name)
		})
		return
	}
}

func (s *search) outOfTries(attempt int) bool {
	return s.tries[attempt] >= max(s.c.cfg.Reconnects, 0)
}

// hopeless says, in mode Direct, that also the last, late try has failed.
func (s *search) hopeless(attempt int) bool {
	return s.c.cfg.Mode == Direct && s.tries[attempt] > max(s.c.cfg.Reconnects, 0)
}

// tryAt is when a broken link is tried again.
func (s *search) tryAt(attempt int, p peer) time.Time {
	if s.outOfTries(attempt) {
		return later(s.nextTry[attempt], p.at.Add(s.c.cfg.Patience))
	}
	return s.nextTry[attempt]
}

// poll looks for the commit record when it is S3's turn: in mode S3 always, in
// mode Auto while no link is usable.
func (s *search) poll(ctx context.Context, v trackerView, usable int, now time.Time) {
	if s.c.view == nil || s.polling || s.pollOver != nil || usable > 0 || now.Before(s.pollDue(v)) {
		return
	}
	s.polling = true
	s.start(ctx, result{kind: resultPoll}, func() (*feed, error) {
		return s.c.fetchS3(ctx, s.t, s.pos)
	})
}

func (s *search) pollDue(v trackerView) time.Time {
	if s.c.cfg.Mode == Auto && len(v.peers) == 0 && v.ended == nil {
		return later(s.pollAt, s.began.Add(storeGrace))
	}
	return s.pollAt
}

// note takes a result that brought no feed into account.
func (s *search) note(r result) {
	now := time.Now()
	switch r.kind {
	case resultAsk:
		s.noteAsk(r)
	case resultConnect:
		s.connecting = false
		s.nextTry[r.attempt] = now.Add(connectSpread)
		if s.outOfTries(r.attempt) {
			s.nextTry[r.attempt] = now.Add(s.c.cfg.Patience)
		}
	case resultPoll:
		s.polling = false
		s.polled = r.began
		s.polls++
		wait := min(firstPoll<<min(s.polls-1, 10), maxPoll)
		s.pollAt = now.Add(wait*4/5 + rand.N(wait*2/5))
		s.unusable = nil
		switch {
		case errors.Is(r.err, errNoRecord):
		case errors.Is(r.err, errNotInRecord), errors.Is(r.err, errUnusable), errors.Is(r.err, ErrRecord):
			s.unusable = r.err
			if s.unusableAt.IsZero() {
				s.unusableAt = now
			}
		case isPermanent(r.err) && !errors.Is(r.err, errBadObject):
			s.pollOver = r.err
		default:
			s.c.retried()
		}
		if s.unusable == nil {
			s.unusableAt = time.Time{}
		}
	}
}

func (s *search) noteAsk(r result) {
	delete(s.asking, r.link.link)
	if s.t.lostIfDone(r.link) {
		return
	}
	s.c.retried()
	_, refusal := errors.AsType[*refusedError](r.err)
	switch {
	case refusal, s.asks[r.link.link] >= asksPerLink:
		s.refused[r.link.link] = r.err
	case errors.Is(r.err, ErrProtocol):
		s.t.strike(r.link.attempt, PathDirect, r.err)
	}
}

// judge decides whether there is hope, and when to look again at the latest.
func (s *search) judge(v trackerView, usable int, now time.Time) (wake time.Time, err error) {
	if s.pollOver != nil && s.c.cfg.Mode == S3 {
		return wake, s.pollOver
	}
	sooner := func(t time.Time) {
		if wake.IsZero() || t.Before(wake) {
			wake = t
		}
	}
	if s.c.view != nil && !s.polling && s.pollOver == nil && usable == 0 {
		sooner(s.pollDue(v))
	}
	if usable > 0 || s.connecting {
		return wake, nil
	}
	since, last, known := s.unusableAt, s.unusable, s.unusable != nil
	for attempt, p := range v.peers {
		switch {
		case p.gone:
			since, known = later(since, p.at), true
		case !p.down: // alive, but all that it gives is bad
			known = true
		case s.hopeless(attempt):
			return wake, &LinkError{Producer: s.t.producer, Peer: p.name, Err: p.err}
		case v.ended != nil && s.c.cfg.Mode == Direct:
			return wake, &LinkError{Producer: s.t.producer, Peer: p.name, Err: v.ended}
		case v.ended != nil:
			since, known = later(since, p.at), true
		default:
			sooner(s.tryAt(attempt, p))
			return wake, nil
		}
	}
	switch {
	case known:
	case v.ended != nil && s.c.cfg.Mode == Direct:
		return wake, &LinkError{Producer: s.t.producer, Peer: "not seen yet", Err: v.ended}
	case v.ended != nil && s.pollOver != nil:
		return wake, s.pollOver
	default:
		return wake, nil // not seen yet: the caller knows whether it is to come
	}
	end := later(since, s.began).Add(s.c.cfg.Patience)
	if now.Before(end) {
		sooner(end)
		return wake, nil
	}
	// One look at S3 that began after the patience had ended is the last word.
	if s.c.view != nil && s.pollOver == nil && s.polled.Before(end) {
		s.pollAt = earlier(s.pollAt, now)
		if !s.polling {
			sooner(now)
		}
		return wake, nil
	}
	if s.pollOver != nil {
		last = s.pollOver
	}
	if last == nil {
		last = v.last
	}
	for _, err := range s.refused {
		if last == nil {
			last = err
		}
	}
	if last == nil {
		last = errNoPeer
	}
	return wake, &LostError{Producer: s.t.producer, Attempts: s.t.attempts(), Err: last}
}

func (c *Consumer) retried() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Retries++
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// errStuck ends a read that breaks off again and again.
func errStuck(n int, src Source, err error) error {
	return fmt.Errorf("exchange: the read from %s broke off %d times in a row: %w", src, n, err)
}
