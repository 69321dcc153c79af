//go:build !linux

package client

import "time"

// timerSlack is 0 where the runtime's timers are all there is.
const timerSlack = 0

// sleepUntil waits until t.
func sleepUntil(t time.Time) { time.Sleep(time.Until(t)) }
