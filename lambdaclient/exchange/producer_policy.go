package exchange

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
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
		if existing != nil {
			if ok, err := p.serves(ctx, existing, record); err != nil || ok {
				return false, err
			}
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
	defer p.mu.Unlock()
	r := &commitRecord{Version: recordVersion, Job: p.shuffle.Job, Producer: p.cfg.Producer, Attempt: p.cfg.Attempt, Partitions: []recordEntry{}}
	var parts []*partition
	for i, c := range p.consumers {
		if c.acked() {
			continue
		}
		part := p.parts[i]
		r.Partitions = append(r.Partitions, recordEntry{Partition: i, Offset: r.Size, Size: part.size, CRC32C: part.crc})
		r.Size += part.size
		parts = append(parts, part)
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
		case existing != nil:
			if existing.Attempt == ours.Attempt && existing.Key == ours.Key {
				return true, nil // our own write, whose answer got lost
			}
			if ok, err := p.serves(ctx, existing, ours); err != nil || ok {
				return false, err
			}
		}
		replace = etag
	}
	return false, p.view.fail("write commit record", commitKey(ours.Job, ours.Producer), errors.New("another writer was faster, again and again"))
}

// serves tells whether another attempt's record does all that ours would do:
// it has our partitions, and the object is there in full.
func (p *Producer) serves(ctx context.Context, existing, ours *commitRecord) (bool, error) {
	if slices.Contains(p.cfg.Replaces, existing.Attempt) && existing.Attempt != ours.Attempt {
		return false, nil
	}
	have := make(map[int]bool, len(existing.Partitions))
	for _, e := range existing.Partitions {
		have[e.Partition] = true
	}
	for _, e := range ours.Partitions {
		if !have[e.Partition] {
			return false, nil
		}
	}
	if existing.Size == 0 {
		return true, nil
	}
	size, ok, err := p.view.head(ctx, existing.Key)
	return ok && size == existing.Size, err
}
