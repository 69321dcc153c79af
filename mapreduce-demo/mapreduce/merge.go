package mapreduce

import (
	"bytes"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"
)

// merger is a k-way merge of runs by a loser tree. It holds one buffer per run,
// whatever their length.
type merger struct {
	runs   []*mergeRun
	losers []int // losers[0] is the winner
}

type mergeRun struct {
	*RunReader
	prefix uint64
	done   bool
}

// advance moves one run to its next pair or marks it as done.
func (m *mergeRun) advance() error {
	switch err := m.Next(); {
	case err == io.EOF:
		m.done = true
	case err != nil:
		return err
	default:
		m.prefix = keyPrefix(m.Key())
	}
	return nil
}

// newMerger reads the first pair of every run, of all of them at once, since
// each may have to wait for its producer.
func newMerger(runs []io.Reader) (*merger, error) {
	m := &merger{runs: make([]*mergeRun, len(runs)), losers: make([]int, max(1, len(runs)))}
	var group errgroup.Group
	for i, src := range runs {
		m.runs[i] = &mergeRun{RunReader: NewRunReader(src)}
		group.Go(func() error {
			if err := m.runs[i].advance(); err != nil {
				return &RunError{Run: i, Err: err}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	m.build()
	return m, nil
}

// RunError says which of the runs of a reduce task could not be read.
type RunError struct {
	Run int // index in the slice given to RunReduce
	Err error
}

// Error names the run.
func (e *RunError) Error() string { return fmt.Sprintf("read run %d: %v", e.Run, e.Err) }

// Unwrap returns the cause.
func (e *RunError) Unwrap() error { return e.Err }

// less orders runs by their current keys, then by their number.
func (m *merger) less(a, b int) bool {
	x, y := m.runs[a], m.runs[b]
	if x.done || y.done {
		return !x.done
	}
	if x.prefix != y.prefix {
		return x.prefix < y.prefix
	}
	if c := bytes.Compare(x.Key(), y.Key()); c != 0 {
		return c < 0
	}
	return a < b
}

// build plays all matches: leaf i stands at node len(runs)+i, and every inner
// node keeps the loser of its match.
func (m *merger) build() {
	k := len(m.runs)
	if k == 0 {
		return
	}
	winners := make([]int, 2*k)
	for i := range k {
		winners[k+i] = i
	}
	for node := k - 1; node > 0; node-- {
		a, b := winners[2*node], winners[2*node+1]
		if m.less(b, a) {
			a, b = b, a
		}
		winners[node], m.losers[node] = a, b
	}
	m.losers[0] = winners[1]
}

// top is the run with the least key, or nil when all are done.
func (m *merger) top() *mergeRun {
	if len(m.runs) == 0 {
		return nil
	}
	if r := m.runs[m.losers[0]]; !r.done {
		return r
	}
	return nil
}

// pop moves the top run on and replays its matches up to the root.
func (m *merger) pop() error {
	winner := m.losers[0]
	if err := m.runs[winner].advance(); err != nil {
		return &RunError{Run: winner, Err: err}
	}
	for node := (len(m.runs) + winner) / 2; node > 0; node /= 2 {
		if m.less(m.losers[node], winner) {
			winner, m.losers[node] = m.losers[node], winner
		}
	}
	m.losers[0] = winner
	return nil
}
