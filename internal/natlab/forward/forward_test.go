package forward

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestHeapGivesItemsByDueTimeThenByOrder(t *testing.T) {
	seed := rand.Uint64()
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var h heap
	const n = 1000
	for range n {
		h.push(item{due: time.Duration(random.IntN(100))})
	}
	last := h.pop()
	for range n - 1 {
		next := h.pop()
		if before(&next, &last) {
			t.Fatalf("%v (number %d) comes after %v (number %d)", next.due, next.order, last.due, last.order)
		}
		last = next
	}
	if len(h.items) != 0 {
		t.Errorf("%d items are left", len(h.items))
	}
}

func TestScheduleShapesFrames(t *testing.T) {
	const n = 1000
	type seen struct{ least, most, lost, backwards int } // times in microseconds
	for name, test := range map[string]struct {
		shape Shape
		want  func(seen) bool
	}{
		"plain":      {Shape{}, func(s seen) bool { return s == seen{} }},
		"delay":      {Shape{Delay: 5 * time.Microsecond}, func(s seen) bool { return s == seen{least: 5, most: 5} }},
		"jitter":     {Shape{Jitter: 9 * time.Microsecond}, func(s seen) bool { return s.most > 7 && s.most <= 9 && s.backwards == 0 }},
		"loss":       {Shape{Loss: 0.5}, func(s seen) bool { return s.lost > n*4/10 && s.lost < n*6/10 }},
		"total loss": {Shape{Loss: 1}, func(s seen) bool { return s.lost == n }},
		"reorder": {Shape{Reorder: 0.5, ReorderBy: 9 * time.Microsecond},
			func(s seen) bool { return s.least == 0 && s.most == 9 && s.backwards > n/10 }},
	} {
		t.Run(name, func(t *testing.T) {
			d := pair{{}, {}}
			test.shape.Seed = 1
			d.shape(test.shape)
			s := seen{least: 1 << 30}
			last := time.Duration(0)
			for i := range n {
				arrival := time.Duration(i) * time.Microsecond
				due, ok := d[0].schedule(arrival)
				if !ok {
					s.lost++
					continue
				}
				if due < last {
					s.backwards++
				}
				last = due
				s.least = min(s.least, int((due-arrival)/time.Microsecond))
				s.most = max(s.most, int((due-arrival)/time.Microsecond))
			}
			if s.lost == n {
				s.least = 0
			}
			if !test.want(s) {
				t.Errorf("%+v gave %+v", test.shape, s)
			}
		})
	}
}

func TestScheduleBoundsTheQueue(t *testing.T) {
	d := pair{{}, {}}
	d.shape(Shape{Delay: time.Second, Queue: 3})
	for i := range 5 {
		if _, ok := d[0].schedule(0); ok != (i < 3) {
			t.Errorf("frame %d: taken %v", i, ok)
		} else if ok {
			d[0].queued++
		}
	}
	if d[0].stats.Overflowed != 2 {
		t.Errorf("%d frames overflowed, want 2", d[0].stats.Overflowed)
	}
}

func TestNapperWakesAheadByItsLateness(t *testing.T) {
	const late = 400 * time.Microsecond
	var n napper
	now := 10 * time.Millisecond // long enough to have credit
	for range 3 {
		due := now + 5*time.Millisecond
		now += n.nap(now, due) + late
		n.overslept(now)
	}
	due := now + 5*time.Millisecond
	woken := now + n.nap(now, due) + late
	if woken > due || woken < due-late {
		t.Errorf("woken %v before the frame is due, want at it or a little before", due-woken)
	}
	if n.overslept(woken); n.nap(woken, due) != 0 && woken < due {
		t.Error("sleeps again rather than poll")
	}
}

func TestNapperPollsForAShareOfTheTimeOnly(t *testing.T) {
	n := napper{ahead: mostAhead}
	polled, now := time.Duration(0), time.Duration(0)
	const step = 10 * time.Microsecond
	for now < time.Second { // there is always a frame due soon
		if slept := n.nap(now, now+200*time.Microsecond); slept > 0 {
			now += slept
		} else {
			polled += step
			now += step
		}
	}
	if polled > 300*time.Millisecond {
		t.Errorf("polled for %v of a second", polled)
	}
}
