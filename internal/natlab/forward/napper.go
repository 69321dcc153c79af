package forward

import "time"

// napper decides how long the engine sleeps before a frame is due. A processor that sleeps
// wakes up late: a virtual one, on a machine that is idle, often by 0.1 ms and sometimes by
// 1 ms. So the napper wakes it ahead by as much as it has lately been late, and has
// the engine poll for the rest; but for no more than a share of the time, since the
// processor has other work as well.
type napper struct {
	ahead  time.Duration // how much earlier to wake up
	credit time.Duration // for polling

	last    time.Duration // when the last nap began
	slept   time.Duration // and how long it was to be
	polling bool          // instead
}

const (
	leastAhead = 50 * time.Microsecond
	mostAhead  = time.Millisecond
	aheadDecay = 128 // punctual naps until ahead has shrunk to a third

	pollShare  = 4 // one part in
	pollCredit = 5 * time.Millisecond
)

// nap says how long to sleep now, for a frame that is due at an instant. Zero means to poll.
func (n *napper) nap(now, due time.Duration) time.Duration {
	passed := now - n.last
	if n.polling {
		n.credit -= passed
	}
	n.credit = min(n.credit+passed/pollShare, pollCredit)
	left := max(0, due-now)
	n.ahead = max(n.ahead, leastAhead)
	n.polling = left > 0 && left <= n.ahead && n.credit > 0
	n.last, n.slept = now, left
	switch {
	case n.polling:
		n.slept = 0
	case left > n.ahead && n.credit > 0:
		n.slept = left - n.ahead
	}
	return n.slept
}

// overslept takes note that a nap was not cut short by other events, and ended now.
func (n *napper) overslept(now time.Duration) {
	if n.slept > 0 {
		late := min(now-n.last-n.slept, mostAhead)
		n.ahead = max(n.ahead-n.ahead/aheadDecay, late, leastAhead)
	}
}
