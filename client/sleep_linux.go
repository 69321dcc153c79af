package client

import (
	"syscall"
	"time"
)

// timerSlack is by how much Go's timers may be late when the process is idle:
// the runtime waits for them in whole milliseconds. So long before a fire time the kernel
// takes over.
const timerSlack = 1500 * time.Microsecond

// sleepUntil blocks the thread until t, precisely.
func sleepUntil(t time.Time) {
	for d := time.Until(t); d > 0; d = time.Until(t) {
		left := syscall.NsecToTimespec(int64(d))
		_ = syscall.Nanosleep(&left, nil) // a signal ends it early: once more
	}
}
