package exchange

import "time"

// Report says what has happened so far.
func (p *Producer) Report() ProducerReport {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.report
	r.Links = append([]LinkResult(nil), r.Links...)
	r.Acked = len(p.consumers) - p.unackedLocked()
	r.Synced = p.sync.done
	if p.view != nil {
		r.S3 = p.view.usage.snapshot()
	}
	if p.finishedAt.IsZero() {
		return r
	}
	end := p.leftAt
	if end.IsZero() {
		end = time.Now()
	}
	r.Linger = end.Sub(p.finishedAt)
	r.Decisions = p.accountLocked(end).explain()
	r.Decisions = r.Decisions[:min(len(r.Decisions), maxDecisions)]
	return r
}

// Decision explains one partition, 0 <= i < Shuffle.Consumers, also beyond those
// that the report has; ok is false before Finish.
func (p *Producer) Decision(i int) (d Decision, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.finishedAt.IsZero() || i < 0 || i >= len(p.consumers) {
		return Decision{}, false
	}
	end := p.leftAt
	if end.IsZero() {
		end = time.Now()
	}
	return p.accountLocked(end).explain()[i], true
}

// accountLocked gathers what is known of all partitions at an instant.
func (p *Producer) accountLocked(now time.Time) *account {
	a := &account{
		now: now, finished: p.finishedAt, mode: p.cfg.Mode, policy: p.cfg.Policy,
		parts: make([]fate, len(p.consumers)),
		sync:  p.report.Sync, durable: p.sync.at, won: p.report.Won,
		failed: (&situation{syncTries: p.sync.tries, permanent: p.sync.permanent}).exhausted(),
	}
	if p.view != nil {
		a.rate = p.view.store.uploadRate()
	}
	for i, c := range p.consumers {
		a.parts[i] = fate{bytes: p.parts[i].size, acked: c.ackedAt, written: c.written}
	}
	return a
}

// Expect announces when the last consumer is expected to have acknowledged, as
// far as the caller knows: Policy.Auto then reckons with that wait. It may be
// called at any time, and again when more is known; a zero time takes it back.
func (p *Producer) Expect(t time.Time) {
	p.mu.Lock()
	p.expected = t
	p.mu.Unlock()
	p.wake()
}
