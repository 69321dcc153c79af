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
	began    time.Time // of the work
	finished time.Time
	deadline time.Time // zero: none
	expected time.Time // of the last acknowledgement; zero: unknown
	mode     Mode
	policy   Policy
	rate     float64 // to S3, bytes per second

	bytes        int64 // of all partitions
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

// uploadTime is how long the write of what is not acknowledged takes.
func (s *situation) uploadTime() time.Duration {
	rate := s.policy.UploadRate
	if rate <= 0 {
		rate = s.rate
	}
	if rate <= 0 {
		return 0
	}
	return time.Duration(float64(s.unackedBytes) / rate * float64(time.Second))
}

// syncBy is the last instant at which a write still ends before the deadline.
func (s *situation) syncBy() (time.Time, bool) {
	if s.deadline.IsZero() {
		return time.Time{}, false
	}
	return s.deadline.Add(-s.margin() - s.uploadTime()), true
}

// leaveBy is when the producer has to go for its deadline's sake.
func (s *situation) leaveBy() (time.Time, bool) {
	if s.deadline.IsZero() {
		return time.Time{}, false
	}
	return s.deadline.Add(-s.margin() / 2), true
}

// trigger is a rule that asks for a write at an instant.
type trigger struct {
	cause SyncCause
	at    time.Time
	ok    bool // false: it does not ask
}

// triggers are all rules; of several that are due, the first is given as the cause.
func (s *situation) triggers() [7]trigger {
	timed := func(cause SyncCause, t time.Time, ok bool) trigger { return trigger{cause, t, ok} }
	rule := func(cause SyncCause, of func() (time.Time, bool)) trigger {
		t, ok := of()
		return timed(cause, t, ok)
	}
	list := [7]trigger{
		{SyncWriteThrough, s.finished, s.writeThrough()},
		{SyncLink, s.finished, s.broken},
		rule(SyncDeadline, s.syncBy),
		rule(SyncTimeToSync, func() (time.Time, bool) { return s.until(s.policy.TimeToSync) }),
		{},
		{},
		rule(SyncTimeToLive, func() (time.Time, bool) { return s.until(s.policy.TimeToLive) }),
	}
	if dollars := s.policy.CostThreshold; dollars > 0 {
		list[4] = rule(SyncCost, func() (time.Time, bool) { return s.spentBy(dollars) })
	}
	if s.policy.Auto {
		list[5] = s.auto()
	}
	return list
}

// auto is the ski-rental rule; where it was announced when consumers will have
// what they want, that is the wait to reckon with, and the rule has no say before.
func (s *situation) auto() trigger {
	l := s.ledger()
	d, ok := l.breakEven()
	t := trigger{SyncWaited, s.finished.Add(d), ok}
	if rent, loss := l.waiting(d); l.direct >= l.write {
		t.cause = SyncTransfer
	} else if loss > rent {
		t.cause = SyncLoss
	}
	if !s.expected.After(s.now) {
		return t
	}
	rent, loss := l.waiting(s.expected.Sub(s.now))
	if rent+loss+s.policy.Costs.Rates.Direct(s.unackedBytes) >= l.write {
		return trigger{SyncExpected, s.now, true}
	}
	t.at = later(t.at, s.expected)
	return t
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
		return s.decideSync()
	}
	switch {
	case s.mode == S3, s.synced && (s.hopeful == 0 || s.policy.Auto):
		return decision{step: stepLeave}
	case due(s.until(s.policy.TimeToLive)), due(s.leaveBy()):
		return decision{step: stepLeave}
	}
	return s.wait(s.until(s.policy.TimeToLive))
}

// decideSync asks the rules while nothing is written.
func (s *situation) decideSync() decision {
	next := trigger{}
	for _, t := range s.triggers() {
		switch {
		case !t.ok:
		case s.now.Before(t.at):
			if !next.ok || t.at.Before(next.at) {
				next = t
			}
		case s.now.Before(s.retryAt):
			return s.wait(s.retryAt, true)
		default:
			return decision{step: stepSync, cause: t.cause}
		}
	}
	return s.wait(next.at, next.ok)
}

// wait looks again at t, or earlier where the deadline asks for it.
func (s *situation) wait(t time.Time, ok bool) decision {
	d := decision{}
	if ok {
		d.at = t
	}
	if t, ok := s.leaveBy(); ok && s.now.Before(t) && (d.at.IsZero() || t.Before(d.at)) {
		d.at = t
	}
	return d
}

// syncRetry is how long to wait after the nth failed write, n from 1 up.
func syncRetry(n int) time.Duration {
	return min(firstSyncRetry<<min(n-1, 10), maxSyncRetry)
}
