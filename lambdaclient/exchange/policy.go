package exchange

import "time"

const (
	defaultMargin = 2 * time.Second
	// maxSyncTries bounds whole writes, each with the SDK's own repetitions.
	maxSyncTries   = 6
	firstSyncRetry = 250 * time.Millisecond
	maxSyncRetry   = 5 * time.Second
)

// situation is all that the next step of a finished producer depends on.
type situation struct {
	now      time.Time
	finished time.Time
	deadline time.Time // zero: none
	mode     Mode
	policy   Policy
	rate     float64 // to S3, bytes per second

	unacked      int
	unackedBytes int64
	broken       bool // a link to a consumer that has not acknowledged failed
	hopeful      int  // unacked consumers that may still come over a link

	syncing   bool
	synced    bool
	syncTries int       // that failed
	retryAt   time.Time // not before
	permanent bool      // trying again is of no use
}

type step uint8

const (
	stepWait step = iota
	stepSync
	stepLeave
)

// decision is the step to take now, or when to look again at the latest.
type decision struct {
	step  step
	cause SyncCause
	at    time.Time // for stepWait; zero: only when something happens
}

// exhausted says that no further write will be tried.
func (s *situation) exhausted() bool { return s.permanent || s.syncTries >= maxSyncTries }

// writeThrough says that data has to be on S3 before Finish returns.
func (s *situation) writeThrough() bool {
	return s.mode == S3 || (s.mode == Auto && s.policy.TimeToSync <= 0)
}

// until gives the instant d after the finish; ok is false for Never.
func (s *situation) until(d time.Duration) (t time.Time, ok bool) {
	if d == Never {
		return time.Time{}, false
	}
	return s.finished.Add(max(d, 0)), true
}

func (s *situation) margin() time.Duration {
	if s.policy.Margin <= 0 {
		return defaultMargin
	}
	return s.policy.Margin
}

// syncBy is the last instant at which a write still ends before the deadline.
func (s *situation) syncBy() (time.Time, bool) {
	if s.deadline.IsZero() {
		return time.Time{}, false
	}
	rate := s.policy.UploadRate
	if rate <= 0 {
		rate = s.rate
	}
	upload := time.Duration(float64(s.unackedBytes) / rate * float64(time.Second))
	return s.deadline.Add(-s.margin() - upload), true
}

// leaveBy is when the producer has to go for its deadline's sake.
func (s *situation) leaveBy() (time.Time, bool) {
	if s.deadline.IsZero() {
		return time.Time{}, false
	}
	return s.deadline.Add(-s.margin() / 2), true
}

// decide is the whole policy: a pure function, so that it can be tested as one.
func decide(s *situation) decision {
	due := func(t time.Time, ok bool) bool { return ok && !s.now.Before(t) }
	if s.syncing {
		return decision{}
	}
	if s.unacked == 0 {
		return decision{step: stepLeave}
	}
	if s.mode == Direct {
		if due(s.until(s.policy.TimeToLive)) || due(s.leaveBy()) {
			return decision{step: stepLeave}
		}
		return s.wait(s.until(s.policy.TimeToLive))
	}
	if !s.synced && !s.exhausted() {
		cause := SyncNone
		switch {
		case s.writeThrough():
			cause = SyncWriteThrough
		case s.broken:
			cause = SyncLink
		case due(s.syncBy()):
			cause = SyncDeadline
		case due(s.until(s.policy.TimeToSync)):
			cause = SyncTimeToSync
		case due(s.until(s.policy.TimeToLive)):
			cause = SyncTimeToLive
		}
		switch {
		case cause == SyncNone:
			return s.wait(s.until(min(max(s.policy.TimeToSync, 0), max(s.policy.TimeToLive, 0))))
		case s.now.Before(s.retryAt):
			return s.wait(s.retryAt, true)
		}
		return decision{step: stepSync, cause: cause}
	}
	switch {
	case s.mode == S3, s.synced && s.hopeful == 0:
		return decision{step: stepLeave}
	case due(s.until(s.policy.TimeToLive)), due(s.leaveBy()):
		return decision{step: stepLeave}
	}
	return s.wait(s.until(s.policy.TimeToLive))
}

// wait looks again at t, or earlier where the deadline asks for it.
func (s *situation) wait(t time.Time, ok bool) decision {
	d := decision{}
	if ok {
		d.at = t
	}
	earlier := func(t time.Time, ok bool) {
		if ok && s.now.Before(t) && (d.at.IsZero() || t.Before(d.at)) {
			d.at = t
		}
	}
	if s.mode == Auto && !s.synced && !s.exhausted() {
		earlier(s.syncBy())
	}
	earlier(s.leaveBy())
	return d
}

// syncRetry is how long to wait after the nth failed write, n from 1 up.
func syncRetry(n int) time.Duration {
	return min(firstSyncRetry<<min(n-1, 10), maxSyncRetry)
}
