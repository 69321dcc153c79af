package exchange

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"
)

// run carries out the policy, from Finish until the producer may go.
func (p *Producer) run() {
	defer close(p.over)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s := p.situation()
		d := decide(&s)
		switch d.step {
		case stepLeave:
			p.left(nil)
			return
		case stepSync:
			p.startSync(d.cause)
			continue
		case stepWait:
		}
		if d.at.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(max(time.Until(d.at), 0))
		}
		select {
		case <-timer.C:
		case <-p.kick:
		case <-p.ctx.Done():
			p.left(context.Cause(p.ctx))
			return
		}
	}
}

// left notes the end of the policy's work.
func (p *Producer) left(cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leftAt = time.Now()
	if cause == nil {
		cause = p.sync.err
	}
	p.outcome = p.unsavedLocked(cause)
}

func (p *Producer) situation() situation {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := situation{
		now: time.Now(), began: p.began, finished: p.finishedAt, deadline: p.deadline, expected: p.expected,
		mode: p.cfg.Mode, policy: p.cfg.Policy,
		syncing: p.sync.running, synced: p.sync.done, syncTries: p.sync.tries,
		retryAt: p.sync.retryAt, permanent: p.sync.permanent,
	}
	if p.view != nil {
		s.rate = p.view.store.uploadRate()
	}
	s.bytes = p.report.Bytes
	for i, c := range p.consumers {
		if c.acked() {
			continue
		}
		s.unacked++
		s.unackedBytes += p.parts[i].size
		if c.failed && c.live == 0 {
			s.broken = true
		} else {
			s.hopeful++
		}
	}
	return s
}

// startSync writes in the background, while serving goes on.
func (p *Producer) startSync(cause SyncCause) {
	p.mu.Lock()
	p.sync.running = true
	p.report.Sync = cause
	p.mu.Unlock()
	p.wg.Go(func() {
		start := time.Now()
		won, written, err := p.save(p.ctx)
		p.mu.Lock()
		p.sync.running, p.sync.err = false, err
		p.report.SyncTime += time.Since(start)
		if err == nil {
			p.sync.done, p.sync.at = true, time.Now()
			for _, e := range written {
				p.consumers[e.Partition].written = true
			}
			p.report.Won = won
		} else {
			p.sync.tries++
			p.sync.permanent = isPermanent(err)
			p.sync.retryAt = time.Now().Add(syncRetry(p.sync.tries))
		}
		if s := (&situation{syncTries: p.sync.tries, permanent: p.sync.permanent}); p.sync.done || s.exhausted() {
			close(p.durable)
		}
		p.mu.Unlock()
		p.wake()
	})
}

// save writes what is not acknowledged as one object, and then the commit
// record. It reports whether this attempt's record is the one that counts, and
// which partitions are durable now.
func (p *Producer) save(ctx context.Context) (won bool, written []recordEntry, err error) {
	record, body := p.unsaved()
	won, err = p.saveRecord(ctx, record, body)
	return won, record.Partitions, err
}

func (p *Producer) saveRecord(ctx context.Context, record *commitRecord, body *bundle) (won bool, err error) {
	if p.cfg.Attempt > 0 {
		// An earlier attempt may have saved all this already.
		existing, _, err := p.view.record(ctx, record.Job, record.Producer)
		if err != nil && !errors.Is(err, ErrRecord) {
			return false, err
		}
		if done, won, err := p.settled(ctx, existing, record); done || err != nil {
			return won, err
		}
	}
	if record.Size > 0 {
		nonce := make([]byte, 8)
		_, _ = rand.Read(nonce) // never fails
		record.Key = dataPrefix(record.Job, record.Producer, record.Attempt) + hex.EncodeToString(nonce) + ".data"
		if err := p.view.put(ctx, record.Key, body, record.Size); err != nil {
			return false, err
		}
	}
	return p.commit(ctx, record)
}

// unsaved is the record of all partitions that are not acknowledged, without
// its key, and their bytes.
func (p *Producer) unsaved() (*commitRecord, *bundle) {
	p.mu.Lock()
	acked := make([]bool, len(p.consumers))
	for i := range p.consumers {
		acked[i] = p.consumers[i].acked()
	}
	p.mu.Unlock()
	r := newRecord(p.shuffle.Job, p.cfg.Producer, p.cfg.Attempt, acked, func(i int) (int64, uint32) { return p.parts[i].size, p.parts[i].crc })
	var parts []*partition
	for _, e := range r.Partitions {
		parts = append(parts, p.parts[e.Partition])
	}
	return r, newBundle(parts)
}

// commit makes ours the producer's record, unless a usable one is there.
func (p *Producer) commit(ctx context.Context, ours *commitRecord) (won bool, err error) {
	replace := ""
	for range 8 { // each round but the last lost a race against another writer
		if ok, err := p.view.putRecord(ctx, ours, replace); ok || err != nil {
			return ok, err
		}
		existing, etag, err := p.view.record(ctx, ours.Job, ours.Producer)
		switch {
		case err != nil && !errors.Is(err, ErrRecord):
			return false, err
		case existing == nil && err == nil: // it is gone again
			replace = ""
			continue
		}
		if done, won, err := p.settled(ctx, existing, ours); done || err != nil {
			return won, err
		}
		replace = etag
	}
	return false, p.view.fail("write commit record", commitKey(ours.Job, ours.Producer), errors.New("another writer was faster, again and again"))
}

// settled tells whether the record that is there, nil for one that cannot be
// read, makes ours needless, and whether it is this attempt's.
func (p *Producer) settled(ctx context.Context, existing, ours *commitRecord) (done, won bool, err error) {
	switch onRecord(existing, ours, p.cfg.Replaces) {
	case recordReplace:
		return false, false, nil
	case recordOurs:
		return true, true, nil
	case recordServes:
	}
	// An earlier write of this attempt may have got through although it seemed to fail.
	won = existing.Attempt == ours.Attempt
	if existing.Size == 0 {
		return true, won, nil
	}
	size, ok, err := p.view.head(ctx, existing.Key)
	return ok && size == existing.Size, won, err
}
