package rendezvous

import "time"

// clock is the server's clock as peers see it: nanoseconds since 1970, taken
// once from the wall clock and from then on monotonic, so that a step of the
// wall clock moves no fire time.
type clock struct{ base time.Time }

func newClock() clock { return clock{base: time.Now()} }

// now returns the current instant.
func (c clock) now() int64 { return c.at(time.Now()) }

// at translates an instant that carries a monotonic reading.
func (c clock) at(t time.Time) int64 { return c.base.UnixNano() + int64(t.Sub(c.base)) }
