package rendezvous

import (
	"container/heap"
	"time"
)

// deadline is something that a group does at an instant unless it is stopped before.
type deadline struct {
	at    time.Time
	index int // in the heap; -1 when not in it
	fire  func(now time.Time)
}

// deadlines is a heap, the earliest first.
type deadlines []*deadline

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].at.Before(d[j].at) }
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].index, d[j].index = i, j
}

// Push is heap.Interface's.
func (d *deadlines) Push(x any) {
	e := x.(*deadline)
	e.index = len(*d)
	*d = append(*d, e)
}

// Pop is heap.Interface's.
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	e := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	e.index = -1
	return e
}

// set arms e for an instant, whether it was armed or not.
func (d *deadlines) set(e *deadline, at time.Time) {
	e.at = at
	if e.index >= 0 {
		heap.Fix(d, e.index)
		return
	}
	heap.Push(d, e)
}

// stop disarms e.
func (d *deadlines) stop(e *deadline) {
	if e.index >= 0 {
		heap.Remove(d, e.index)
	}
}

// due removes and returns the earliest one that is not after now, or nil.
func (d *deadlines) due(now time.Time) *deadline {
	if len(*d) == 0 || (*d)[0].at.After(now) {
		return nil
	}
	return heap.Pop(d).(*deadline)
}
