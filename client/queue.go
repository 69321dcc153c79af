package client

import (
	"context"
	"slices"
	"sync"
)

// queue hands values from producers that never block to consumers that wait.
type queue[T any] struct {
	mu     sync.Mutex
	items  []T
	limit  int // 0: none
	err    error
	change signal
}

func newQueue[T any](limit int) *queue[T] { return &queue[T]{limit: limit} }

// push appends v; it reports false when the queue is full or closed.
func (q *queue[T]) push(v T) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil || q.limit > 0 && len(q.items) >= q.limit {
		return false
	}
	q.items = append(q.items, v)
	q.change.broadcast()
	return true
}

// take removes the first item that match accepts.
func (q *queue[T]) take(match func(T) bool) (v T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.IndexFunc(q.items, match)
	if i < 0 {
		return v, false
	}
	v = q.items[i]
	q.items = slices.Delete(q.items, i, i+1)
	return v, true
}

// close makes pop fail with err once the items are used up, and returns what was left if drop is set.
func (q *queue[T]) close(err error, drop bool) (left []T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.err = err
	}
	if drop {
		left, q.items = q.items, nil
	}
	q.change.broadcast()
	return left
}

// pop waits for an item. ctx's end is returned as context.Cause(ctx).
func (q *queue[T]) pop(ctx context.Context) (v T, err error) {
	for {
		q.mu.Lock()
		if len(q.items) > 0 {
			v = q.items[0]
			q.items = slices.Delete(q.items, 0, 1)
			q.mu.Unlock()
			return v, nil
		}
		notify, err := q.change.wait(), q.err
		q.mu.Unlock()
		if err != nil {
			return v, err
		}
		select {
		case <-notify:
		case <-ctx.Done():
			return v, context.Cause(ctx)
		}
	}
}

// signal wakes everybody who waits. Its owner's lock guards it; the zero value is ready.
type signal struct{ c chan struct{} }

func (s *signal) wait() <-chan struct{} {
	if s.c == nil {
		s.c = make(chan struct{})
	}
	return s.c
}

func (s *signal) broadcast() {
	if s.c != nil {
		close(s.c)
		s.c = nil
	}
}
