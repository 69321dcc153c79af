package exchange

import (
	"errors"
	"fmt"
	"time"
)

// badByte is what a damaged object has.
const badByte = 99

func (w *bounds) modelHead(attempt int8) head {
	return head{attempt: int(attempt), size: modelHalves, crc: uint32(max(attempt, 0))}
}

func (w *bounds) consumerSteps(s *modelState, j, b int, visit visitor) {
	c := &s.consumers[j][b]
	if !c.phase.alive() {
		return
	}
	do := func(fault bool, what string, change func(to *modelState, c *modelConsumer)) {
		to := *s
		change(&to, &to.consumers[j][b])
		visit(fault, &to, func() string { return fmt.Sprintf("consumer %d attempt %d %s", j, b, what) })
	}
	dead := func(_ *modelState, c *modelConsumer) { *c = modelConsumer{phase: consumerDead} }
	do(true, "dies", dead)
	if c.frozen {
		do(false, "thaws", func(_ *modelState, c *modelConsumer) { c.frozen = false })
		return
	}
	do(true, "freezes", func(_ *modelState, c *modelConsumer) { c.frozen = true })
	switch c.phase {
	case consumerSeeks:
		w.seek(s, j, c, do)
	case consumerReads:
		w.read(s, j, c, do)
	case consumerWhole:
		commit := func(to *modelState, c *modelConsumer) {
			to.out[j] = mixedOutput
			if c.got == w.content[c.head] {
				to.out[j] = uint8(c.head) + 1
			}
			to.commits[j]++
		}
		if s.out[j] != 0 { // If-None-Match
			do(false, "finds its output there", func(_ *modelState, c *modelConsumer) { *c = modelConsumer{phase: consumerAcks} })
			return
		}
		do(false, "commits", func(to *modelState, c *modelConsumer) { commit(to, c); *c = modelConsumer{phase: consumerAcks} })
		do(true, "commits, without an answer, and fails", func(to *modelState, c *modelConsumer) { commit(to, c); dead(to, c) })
	case consumerAcks:
		var all []int
		for a := range w.attempts {
			if s.reaches(j, a) {
				all = append(all, a)
				do(true, fmt.Sprintf("acknowledges to attempt %d alone", a), func(to *modelState, c *modelConsumer) {
					to.producers[a].acked |= 1 << j
					dead(to, c)
				})
			}
		}
		do(false, "acknowledges, and is done", func(to *modelState, c *modelConsumer) {
			for _, a := range all {
				to.producers[a].acked |= 1 << j
			}
			*c = modelConsumer{phase: consumerDone}
		})
	}
}

// mixedOutput is the output that no single attempt's bytes give.
const mixedOutput = 0xff

// reaches says that a consumer has a link to an attempt.
func (s *modelState) reaches(j, a int) bool {
	p := &s.producers[a]
	return p.phase.alive() && !p.frozen && p.noLink&(1<<j) == 0
}

// seek is the ladder: links, S3, and the end of all hope.
func (w *bounds) seek(s *modelState, j int, c *modelConsumer, do func(bool, string, func(*modelState, *modelConsumer))) {
	pos := position{attempt: int(c.head), off: int64(c.off)}
	linked := 0
	for a := range w.attempts {
		if !s.reaches(j, a) {
			continue
		}
		linked++
		if s.producers[a].phase.serving() {
			do(false, fmt.Sprintf("has a link to attempt %d", a), func(to *modelState, c *modelConsumer) { w.enter(to, c, int8(a), false, pos.offsetFor(a)) })
		}
	}
	var unusable error
	if s.record.there {
		r := w.recordOf(s.record)
		_, off, err := r.pick(j, c.struck&(1<<r.Attempt) != 0, pos)
		if err == nil {
			do(false, fmt.Sprintf("finds attempt %d on S3", r.Attempt), func(to *modelState, c *modelConsumer) {
				w.enter(to, c, int8(r.Attempt), true, off)
			})
			return
		}
		unusable = err
	}
	if linked > 0 {
		return
	}
	lost := w.judge(s, unusable)
	if lost == nil {
		return
	}
	do(false, "finds the producer lost", func(to *modelState, c *modelConsumer) {
		*c = modelConsumer{phase: consumerDone}
		if to.out[j] != 0 { // its caller looks before it complains
			return
		}
		c.phase = consumerLost
		to.missing = true
		for _, a := range lost.Attempts {
			to.useless |= 1 << a
		}
	})
}

// judge asks the product, long after the last thing that happened, and after a
// look at S3 that brought nothing.
func (w *bounds) judge(s *modelState, unusable error) *LostError {
	begin := modelTimes()[0]
	late := begin.Add(time.Hour)
	t := newTracker(0)
	v := trackerView{peers: map[int]peer{}}
	for a := range w.attempts {
		if p := &s.producers[a]; p.phase != producerAbsent {
			v.peers[a] = peer{name: "producer", down: true, gone: !p.phase.alive() || p.frozen, at: begin}
		}
	}
	t.peers = v.peers
	if s.record.there {
		t.record = w.recordOf(s.record)
	}
	q := search{c: w.consumer, t: t, began: begin, polled: late, unusable: unusable, unusableAt: begin, nextTry: map[int]time.Time{}, tries: map[int]int{}}
	_, err := q.judge(v, 0, late)
	lost, _ := errors.AsType[*LostError](err)
	return lost
}

// enter goes on from a source that was asked from an offset on, and takes the
// first piece of it.
func (w *bounds) enter(s *modelState, c *modelConsumer, from int8, byS3 bool, offset int64) {
	c.from, c.byS3 = uint8(from), byS3
	if want := map[bool]uint8{true: c.off}[from == c.head]; offset != int64(want) {
		c.got = [modelHalves]uint8{badByte, badByte} // pieces of another place
	}
	switch join(w.modelHead(c.head), int64(c.off), w.modelHead(from)) {
	case joinAdopt:
		c.head, c.off = from, 0
	case joinResume:
	case joinMismatch:
		return
	case joinCompare:
		for i := range c.off {
			if c.got[i] != w.piece(s, c, i) { // a RestartError: the caller opens again
				*c = modelConsumer{phase: consumerSeeks, head: -1, struck: c.struck}
				return
			}
		}
		c.head = from
	}
	c.phase = consumerReads
	w.take(s, c)
}

// piece is what the source gives.
func (w *bounds) piece(s *modelState, c *modelConsumer, i uint8) uint8 {
	if c.byS3 && s.damaged&(1<<c.from) != 0 {
		return badByte
	}
	return w.content[c.from][i]
}

// take takes the next piece, and checks the whole if it was the last.
func (w *bounds) take(s *modelState, c *modelConsumer) {
	c.got[c.off] = w.piece(s, c, c.off)
	if c.off++; c.off < modelHalves {
		return
	}
	if c.got == w.content[c.head] { // which is what a checksum is for
		c.phase, c.from, c.byS3 = consumerWhole, 0, false
		return
	}
	*c = modelConsumer{phase: consumerSeeks, head: -1, struck: c.struck | 1<<c.head}
}

// read takes the next piece, or loses its source.
func (w *bounds) read(s *modelState, j int, c *modelConsumer, do func(bool, string, func(*modelState, *modelConsumer))) {
	there := c.byS3 || s.reaches(j, int(c.from)) && s.producers[c.from].phase.serving()
	do(there, "loses its source", func(_ *modelState, c *modelConsumer) { c.phase, c.from, c.byS3 = consumerSeeks, 0, false })
	if there {
		do(false, "reads on", w.take)
	}
}
