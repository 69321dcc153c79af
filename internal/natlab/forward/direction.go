package forward

import (
	"math/rand/v2"
	"time"
)

// pair is the two directions between two links.
type pair [2]*direction

func (p pair) shape(s Shape) {
	for i, d := range p {
		d.shape = s
		d.random = rand.New(rand.NewPCG(s.Seed, uint64(i)))
	}
}

// direction is one way through a pair.
type direction struct {
	from, to *port
	shape    Shape
	random   *rand.Rand
	last     time.Duration // when the frame before is due
	queued   int
	closed   bool
	stats    Stats
}

// schedule decides when a frame that arrived at an instant is due, or that it is lost.
func (d *direction) schedule(arrival time.Duration) (due time.Duration, ok bool) {
	s := &d.shape
	if s.Loss > 0 && d.random.Float64() < s.Loss {
		d.stats.Lost++
		return 0, false
	}
	if s.Queue > 0 && d.queued >= s.Queue {
		d.stats.Overflowed++
		return 0, false
	}
	due = arrival + s.Delay
	if s.Jitter > 0 {
		due += time.Duration(d.random.Int64N(int64(s.Jitter) + 1))
	}
	due = max(due, d.last)
	if s.Reorder > 0 && d.random.Float64() < s.Reorder {
		d.stats.Held++
		return due + s.ReorderBy, true // later frames do not wait for this one
	}
	d.last = due
	return due, true
}

func (d *direction) countDrops() { d.stats.Overflowed += d.from.drops() }

// item is a frame under way.
type item struct {
	due   time.Duration
	order uint64
	frame []byte
	way   *direction
}
