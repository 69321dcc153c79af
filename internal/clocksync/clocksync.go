// Package clocksync estimates the server's clock from timestamped pings, as
// NTP's on-wire protocol does (RFC 5905 section 8): of the last samples the one
// with the smallest round trip counts, because queueing only ever adds to it
// (the minimum filter of RFC 5905 section 10).
package clocksync

import (
	"sync"
	"time"
)

// DefaultWindow is how many samples a Clock keeps when New is given none.
const DefaultWindow = 32

// Sample is one ping. T1 and T4 are read off the local clock by Clock.Now when
// the request leaves and the reply arrives, T2 and T3 off the server's when the
// request arrives and the reply leaves; all in nanoseconds since 1970.
type Sample struct{ T1, T2, T3, T4 int64 }

// RTT is the time on the way, there and back.
func (s Sample) RTT() time.Duration { return time.Duration((s.T4 - s.T1) - (s.T3 - s.T2)) }

// Offset is what must be added to the local clock to get the server's, if both ways take equally long. It is
// wrong by at most half the RTT.
func (s Sample) Offset() time.Duration { return time.Duration((s.T2-s.T1)/2 + (s.T3-s.T4)/2) }

// Clock knows the local clock and estimates the server's. The local clock is the
// monotonic one, with its origin at the wall clock of New, so that a step of the
// wall clock moves nothing. It is safe for concurrent use; make it with New.
type Clock struct {
	origin time.Time

	mu      sync.Mutex
	samples []Sample // a ring
	next    int
	best    Sample
	synced  bool
}

// New returns a clock that keeps so many samples; 0 or less means DefaultWindow.
func New(window int) *Clock {
	if window <= 0 {
		window = DefaultWindow
	}
	return &Clock{origin: time.Now(), samples: make([]Sample, 0, window)}
}

// Now reads the local clock, in nanoseconds since 1970.
func (c *Clock) Now() int64 { return c.Nanos(time.Now()) }

// Nanos translates an instant that has a monotonic reading to the local clock.
func (c *Clock) Nanos(t time.Time) int64 { return c.origin.UnixNano() + int64(t.Sub(c.origin)) }

// Add takes in a sample and tells whether it is plausible: a negative round trip
// or server time is not, and is ignored.
func (c *Clock) Add(s Sample) bool {
	if s.RTT() < 0 || s.T4 < s.T1 || s.T3 < s.T2 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.samples) < cap(c.samples) {
		c.samples = append(c.samples, s)
	} else {
		c.samples[c.next] = s
		c.next = (c.next + 1) % len(c.samples)
	}
	c.synced = true
	c.best = c.samples[0]
	for _, s := range c.samples[1:] {
		if s.RTT() < c.best.RTT() {
			c.best = s
		}
	}
	return true
}

// Reset forgets all samples: after a freeze, or when the server is another one.
func (c *Clock) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.samples, c.next, c.best, c.synced = c.samples[:0], 0, Sample{}, false
}

// Synced tells whether there is an estimate; until then Offset and RTT are 0.
func (c *Clock) Synced() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.synced }

// Offset is what must be added to the local clock to get the server's.
func (c *Clock) Offset() time.Duration { c.mu.Lock(); defer c.mu.Unlock(); return c.best.Offset() }

// RTT is the smallest round trip to the server in the window.
func (c *Clock) RTT() time.Duration { c.mu.Lock(); defer c.mu.Unlock(); return c.best.RTT() }

// ServerTime translates an instant to the server's clock, in nanoseconds since 1970.
func (c *Clock) ServerTime(t time.Time) int64 { return c.Nanos(t) + int64(c.Offset()) }

// LocalTime translates an instant on the server's clock to a local one, with a monotonic reading.
func (c *Clock) LocalTime(server int64) time.Time {
	return c.origin.Add(time.Duration(server - int64(c.Offset()) - c.origin.UnixNano()))
}
