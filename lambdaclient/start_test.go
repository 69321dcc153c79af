package lambdaclient

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestHandlerContextEndsAMarginBeforeTheDeadline(t *testing.T) {
	for _, c := range []struct {
		name                 string
		left, margin, usable time.Duration
	}{
		{"default", 15 * time.Minute, DefaultMargin, 15*time.Minute - DefaultMargin},
		{"none", 10 * time.Second, 0, 10 * time.Second},
		{"longer than half of the time", 4 * time.Second, time.Minute, 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), c.left)
				defer cancel()
				f := wrap(func(ctx context.Context, s *Session, _ int) (time.Duration, error) {
					<-ctx.Done()
					return time.Since(start), context.Cause(ctx)
				}, newSession(), WithMargin(c.margin))
				usable, err := f(ctx, 0)
				if usable != c.usable {
					t.Errorf("the context ended after %v, want %v", usable, c.usable)
				}
				if want := c.margin > 0; errors.Is(err, ErrDeadline) != want {
					t.Errorf("cause %v; ErrDeadline wanted: %v", err, want)
				}
			})
		})
	}
}

func TestContextWithoutDeadlineStaysOpen(t *testing.T) {
	t.Parallel()
	f := wrap(func(ctx context.Context, s *Session, _ int) (bool, error) {
		_, bounded := ctx.Deadline()
		return bounded, ctx.Err()
	}, newSession())
	if bounded, err := f(t.Context(), 0); bounded || err != nil {
		t.Errorf("bounded %v, %v", bounded, err)
	}
}

func TestSessionCountsInvocations(t *testing.T) {
	t.Parallel()
	s := newSession()
	f := wrap(func(_ context.Context, s *Session, _ int) (bool, error) { return s.ColdStart(), nil }, s)
	for n, want := range []bool{true, false, false} {
		if cold, err := f(t.Context(), 0); cold != want || err != nil || s.Invocations() != n+1 {
			t.Errorf("invocation %d: cold %v, %v, counted %d", n+1, cold, err, s.Invocations())
		}
	}
}
