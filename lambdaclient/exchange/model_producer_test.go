package exchange

import (
	"fmt"
	"math/bits"
	"time"
)

// instants of the model: a producer's timers are either all to come or all over.
func modelTimes() [2]time.Time {
	early := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return [2]time.Time{early, early.Add(time.Hour)}
}

// makeRecords prepares all records that there can be.
func (w *bounds) makeRecords() {
	for a := range w.records {
		for try := range w.records[a] {
			for mask := range w.records[a][try] {
				var acked []bool
				for j := range w.consumers {
					acked = append(acked, mask&(1<<j) == 0)
				}
				r := newRecord("job", 0, a, acked, func(int) (int64, uint32) { return modelHalves, uint32(a) })
				r.Key = fmt.Sprintf("%d-%d", a, try)
				w.records[a][try][mask] = r
			}
		}
	}
}

func (w *bounds) recordOf(r modelRecord) *commitRecord {
	return w.records[r.attempt][r.try][r.mask]
}

// situation is what a producer decides by.
func (w *bounds) situation(p *modelProducer, now time.Time) situation {
	open := uint8(1<<w.consumers-1) &^ p.acked
	return situation{
		now: now, began: modelTimes()[0], finished: modelTimes()[0], deadline: modelTimes()[0].Add(15 * time.Minute), mode: Auto, policy: w.policy, rate: 1e9,
		unacked: bits.OnesCount8(open), unackedBytes: int64(bits.OnesCount8(open)) * modelHalves,
		broken: open&p.noLink != 0, hopeful: bits.OnesCount8(open &^ p.noLink),
		synced: p.saved, syncTries: int(p.try), permanent: p.barred,
	}
}

func (w *bounds) producerSteps(s *modelState, a int, visit visitor) {
	p := &s.producers[a]
	if !p.phase.alive() {
		return
	}
	do := func(fault bool, what string, change func(to *modelState, p *modelProducer)) {
		to := *s
		change(&to, &to.producers[a])
		visit(fault, &to, func() string { return fmt.Sprintf("producer attempt %d %s", a, what) })
	}
	do(true, "dies", func(_ *modelState, p *modelProducer) { *p = modelProducer{phase: producerDead, acked: p.acked} })
	if p.frozen {
		do(false, "thaws", func(_ *modelState, p *modelProducer) { p.frozen = false })
		return
	}
	do(true, "freezes", func(_ *modelState, p *modelProducer) { p.frozen = true })
	for j := range w.consumers {
		if p.noLink&(1<<j) == 0 {
			do(true, fmt.Sprintf("has no link to consumer %d any more", j), func(_ *modelState, p *modelProducer) { p.noLink |= 1 << j })
		}
	}
	if !p.barred && !p.saved && w.barred {
		do(true, "is refused by S3 for good", func(_ *modelState, p *modelProducer) {
			p.barred, p.seen = true, modelRecord{}
			if p.phase != producerWorks {
				p.phase = producerServes
			}
		})
	}
	// failed is a request that seems to have failed, whether or not it had its effect.
	failed := func(what string, effect func(to *modelState, p *modelProducer)) {
		if p.try > 0 {
			return // of two tries the second works
		}
		for _, did := range []bool{false, true} {
			do(true, fmt.Sprintf("has no answer to its %s, which took place: %v", what, did), func(to *modelState, p *modelProducer) {
				if did {
					effect(to, p)
				}
				p.phase, p.seen = producerServes, modelRecord{}
				p.try++
			})
		}
	}
	own := modelRecord{there: true, attempt: uint8(a), try: p.try, mask: p.mask}
	ours := w.recordOf(own)
	claim := func(to *modelState, _ *modelProducer) { to.record = own }
	saved := func(_ *modelState, p *modelProducer) { p.phase, p.saved, p.seen = producerSaved, true, modelRecord{} }
	switch p.phase {
	case producerWorks:
		do(false, "finishes", func(_ *modelState, p *modelProducer) { p.phase = producerServes })
	case producerServes, producerSaved:
		for _, now := range modelTimes() {
			situation := w.situation(p, now)
			switch decide(&situation).step {
			case stepWait:
			case stepLeave:
				do(false, "leaves", func(_ *modelState, p *modelProducer) {
					p.phase = producerLeft
					p.code, _ = farewell(true, situation.unacked, p.saved)
				})
			case stepSync:
				do(false, "begins to write", func(to *modelState, p *modelProducer) {
					p.phase, p.mask = producerPuts, uint8(1<<w.consumers-1)&^p.acked
					if a > 0 && to.record.there && onRecord(w.recordOf(to.record), w.recordOf(modelRecord{attempt: uint8(a), try: p.try, mask: p.mask}), to.replaced(a)) == recordServes {
						saved(to, p)
					}
				})
			}
		}
	case producerPuts:
		put := func(to *modelState, p *modelProducer) { to.objects[a][p.try] = objectThere | p.mask }
		do(false, "writes its data", func(to *modelState, p *modelProducer) {
			put(to, p)
			p.phase = producerClaims
		})
		failed("data", put)
	case producerClaims:
		if s.record.there {
			do(false, "meets a record", func(_ *modelState, p *modelProducer) { p.phase = producerLooks })
			return
		}
		do(false, "commits", func(to *modelState, p *modelProducer) { claim(to, p); saved(to, p) })
		do(true, "commits, and the SDK asks again", func(to *modelState, p *modelProducer) { claim(to, p); p.phase = producerLooks })
		failed("record", claim)
	case producerLooks:
		do(false, "reads the record", func(to *modelState, p *modelProducer) {
			if onRecord(w.recordOf(to.record), ours, to.replaced(a)) == recordReplace {
				p.phase, p.seen = producerReplace, to.record
			} else {
				saved(to, p)
			}
		})
	case producerReplace:
		if s.record != p.seen {
			do(false, "finds the record changed", func(_ *modelState, p *modelProducer) { p.phase, p.seen = producerLooks, modelRecord{} })
			return
		}
		do(false, "replaces the record", func(to *modelState, p *modelProducer) { claim(to, p); saved(to, p) })
		do(true, "replaces the record, and the SDK asks again", func(to *modelState, p *modelProducer) {
			claim(to, p)
			p.phase, p.seen = producerLooks, modelRecord{}
		})
		failed("record", claim)
	}
}

// replaced are the attempts that the driver told an attempt to be of no use.
func (s *modelState) replaced(attempt int) (list []int) {
	for a := range attempt {
		if s.useless&(1<<a) != 0 {
			list = append(list, a)
		}
	}
	return list
}
