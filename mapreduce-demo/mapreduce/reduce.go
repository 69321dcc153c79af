package mapreduce

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// Values yields the values of one key. It is only valid during the call of
// Reduce that got it.
type Values[V any] struct {
	next func() ([]byte, bool)
	dec  Codec[V]
	err  error
}

// Next returns the next value, and false after the last one or when reading
// failed. A failure ends the task, so a Reducer need not look at it.
func (v *Values[V]) Next() (value V, ok bool) {
	if v.err != nil {
		return value, false
	}
	b, ok := v.next()
	if !ok {
		return value, false
	}
	if value, v.err = v.dec.Decode(b); v.err != nil {
		return value, false
	}
	return value, true
}

// reduction is one running reduce task.
type reduction[K, V any] struct {
	job    *Job[K, V]
	out    io.Writer
	buf    []byte
	merge  *merger
	key    []byte // the current group's key
	prefix uint64
	fresh  bool // the top run stands on a value not yet handed out
	err    error
	stats  ReduceStats
}

func newReduction[K, V any](j *Job[K, V], out io.Writer) *reduction[K, V] {
	return &reduction[K, V]{job: j, out: out, buf: make([]byte, 0, runBuffer)}
}

func (r *reduction[K, V]) run(ctx context.Context, runs []io.Reader) error {
	m, err := newMerger(runs)
	if err != nil {
		return err
	}
	r.merge = m
	defer r.count()
	reducer := r.job.Reducer()
	values := &Values[V]{next: r.next, dec: r.job.Value}
	for top := m.top(); top != nil; top = m.top() {
		if r.stats.Keys%checkEvery == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.key = append(r.key[:0], top.Key()...)
		r.prefix, r.fresh = top.prefix, true
		key, err := r.job.Key.Decode(r.key)
		if err != nil {
			return fmt.Errorf("decode key %.64q: %w", r.key, err)
		}
		r.stats.Keys++
		err = reducer.Reduce(ctx, key, values, r)
		if err := errors.Join(r.err, values.err); err != nil {
			return err
		}
		if err != nil {
			return fmt.Errorf("reduce key %.64q: %w", r.key, err)
		}
		for {
			if _, more := r.next(); !more {
				break
			}
		}
		if r.err != nil {
			return r.err
		}
	}
	return r.flush()
}

// next returns the group's next encoded value, valid until the next call.
func (r *reduction[K, V]) next() ([]byte, bool) {
	if r.err != nil {
		return nil, false
	}
	if !r.fresh {
		// The value handed out before is used up: move its run on.
		if r.err = r.merge.pop(); r.err != nil {
			return nil, false
		}
	}
	top := r.merge.top()
	if top == nil || top.prefix != r.prefix || !bytes.Equal(top.Key(), r.key) {
		r.fresh = true
		return nil, false
	}
	r.fresh = false
	return top.Value(), true
}

// Emit implements Emitter for the reducer's output.
func (r *reduction[K, V]) Emit(key K, value V) error {
	start := len(r.buf)
	r.buf = r.job.Format(r.buf, key, value)
	r.stats.Emitted++
	r.stats.OutBytes += int64(len(r.buf) - start)
	if len(r.buf) >= runBuffer-4<<10 {
		return r.flush()
	}
	return nil
}

func (r *reduction[K, V]) flush() error {
	if len(r.buf) == 0 {
		return nil
	}
	_, err := r.out.Write(r.buf)
	r.buf = r.buf[:0]
	if err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

func (r *reduction[K, V]) count() {
	for _, run := range r.merge.runs {
		r.stats.Pairs += run.Pairs()
		r.stats.RunBytes += run.Size()
	}
}
