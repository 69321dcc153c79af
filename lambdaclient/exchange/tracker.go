package exchange

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// tracker is what a consumer knows of one producer: its attempts, their links,
// and what has been found wrong with them.
type tracker struct {
	producer int

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at every change
	peers    map[int]peer  // by attempt
	links    []trackedLink // live ones
	strikes  map[strike]int
	record   *commitRecord // the last one seen
	ended    error         // no more links will come
	badEvent error         // the last failure
	report   PartitionReport
}

// peer is one attempt of the producer.
type peer struct {
	name string
	down bool
	// gone says that the peer is known not to be there any more, since at.
	gone bool
	at   time.Time
	err  error
}

type trackedLink struct {
	attempt int
	link    link
}

// strike counts what was wrong with a source; after maxStrikes it is not used.
type strike struct {
	attempt int
	path    Path
}

const maxStrikes = 2

func newTracker(producer int) *tracker {
	return &tracker{
		producer: producer, changed: make(chan struct{}),
		peers: map[int]peer{}, strikes: map[strike]int{},
		report: PartitionReport{Source: Source{Producer: producer}},
	}
}

func (t *tracker) changedLocked() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// up notes a new link.
func (t *tracker) up(attempt int, l link) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.peers[attempt] = peer{name: l.peer()}
	t.links = append(t.links, trackedLink{attempt, l})
	t.changedLocked()
}

// lost notes the end of a link. The second time it does nothing.
func (t *tracker) lost(attempt int, l link, cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.links)
	t.links = slices.DeleteFunc(t.links, func(o trackedLink) bool { return o.link == l })
	if len(t.links) < n {
		t.downLocked(attempt, l.peer(), cause)
	}
}

// lostIfDone notes the end of a link for who has seen it before the link's own
// goroutine has.
func (t *tracker) lostIfDone(l trackedLink) bool {
	select {
	case <-l.link.done():
		t.lost(l.attempt, l.link, l.link.cause())
		return true
	default:
		return false
	}
}

// down notes that an attempt has a link no more, or cannot have one. It is of
// no effect while the attempt has another live link.
func (t *tracker) down(attempt int, name string, cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.downLocked(attempt, name, cause)
}

func (t *tracker) downLocked(attempt int, name string, cause error) {
	defer t.changedLocked()
	t.badEvent = cause
	if slices.ContainsFunc(t.links, func(o trackedLink) bool { return o.attempt == attempt }) {
		return
	}
	_, left := leaveCode(cause)
	gone := left || errors.Is(cause, errNoPeer)
	if old := t.peers[attempt]; old.gone && !gone {
		return
	}
	t.peers[attempt] = peer{name: name, down: true, gone: gone, at: time.Now(), err: cause}
}

func (t *tracker) noMore(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = err
	t.changedLocked()
}

// strike notes that a source gave something wrong.
func (t *tracker) strike(attempt int, path Path, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.strikes[strike{attempt, path}]++
	t.badEvent = err
	if path == PathS3 {
		t.record = nil // it may have been replaced meanwhile
	}
	t.changedLocked()
}

func (t *tracker) banned(attempt int, path Path) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.strikes[strike{attempt, path}] >= maxStrikes
}

func (t *tracker) setRecord(r *commitRecord) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.record = r
}

func (t *tracker) knownRecord() *commitRecord {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.record
}

// view is a copy of a tracker's state.
type trackerView struct {
	changed <-chan struct{}
	peers   map[int]peer
	links   []trackedLink // usable ones
	ended   error
	last    error
}

func (t *tracker) snapshot() trackerView {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := trackerView{changed: t.changed, peers: maps.Clone(t.peers), ended: t.ended, last: t.badEvent}
	for _, l := range t.links {
		if t.strikes[strike{l.attempt, PathDirect}] < maxStrikes {
			v.links = append(v.links, l)
		}
	}
	return v
}

// attempts lists the attempts of which anything was seen.
func (t *tracker) attempts() []int {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := map[int]bool{}
	for a := range t.peers {
		seen[a] = true
	}
	for s := range t.strikes {
		seen[s.attempt] = true
	}
	if t.record != nil {
		seen[t.record.Attempt] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

func (t *tracker) partitionReport() PartitionReport {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.report
}

func (t *tracker) update(f func(*PartitionReport)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.report)
}
