package lambdalab

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Report is what the service charges for one invocation, and what became of it.
type Report struct {
	Function    string
	RequestID   string
	Environment string
	Start       time.Time     // when the environment began with it, initialization included
	Init        time.Duration // of the environment, if this invocation had to wait for it; else 0
	Duration    time.Duration // of the invocation without initialization
	BilledMS    int64         // both, rounded up
	MemoryMB    int           // the function's
	MaxMemoryMB int           // the most that the environment's process has had so far
	ErrorType   string        // empty if it succeeded
}

// GBSeconds is the billed time multiplied by the function's memory in GiB.
func (r Report) GBSeconds() float64 {
	return float64(r.BilledMS) / 1000 * float64(r.MemoryMB) / 1024
}

// Reports returns a report for every finished invocation since the start of
// the service, in the order in which they finished. Invocations that were
// refused, for example for a concurrency limit, have none.
func (s *Service) Reports() []Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.reports)
}

// line is the REPORT line of the log.
func (r Report) line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "REPORT RequestId: %s\tDuration: %.2f ms\tBilled Duration: %d ms\tMemory Size: %d MB\tMax Memory Used: %d MB\t",
		r.RequestID, milliseconds(r.Duration), r.BilledMS, r.MemoryMB, r.MaxMemoryMB)
	if r.Init > 0 {
		fmt.Fprintf(&b, "Init Duration: %.2f ms\t", milliseconds(r.Init))
	}
	switch r.ErrorType {
	case "":
	case errorTimeout:
		b.WriteString("Status: timeout")
	default:
		fmt.Fprintf(&b, "Status: error\tError Type: %s", r.ErrorType)
	}
	return b.String()
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// billed rounds up to whole milliseconds.
func billed(d time.Duration) int64 { return int64(math.Ceil(milliseconds(d))) }
