package exchange

import (
	"math"
	"time"

	"github.com/bradawl/bradawl/lambdaclient/price"
)

// Costs is what the rules in US dollars reckon with.
type Costs struct {
	// Rates are the prices, with the region, architecture, storage class and the
	// reading of the transfer charges that they hold for. [price.Table.Rates] gives them.
	Rates price.Rates
	// MemoryMB is the memory of the producer's function, in 2^20 bytes. 0 takes what
	// Lambda says in AWS_LAMBDA_FUNCTION_MEMORY_SIZE.
	MemoryMB int
	// Depends is what a loss of the producer costs beyond its own work, in dollars:
	// input that was made for it alone and would have to be made again, consumers
	// that wait meanwhile. 0 if nothing does.
	Depends float64
}

// readsPerPartition is what a consumer asks of S3: the record and the bytes.
const readsPerPartition = 2

// writeRequests is how many requests it takes to write an attempt of so many bytes.
func writeRequests(size int64) int64 {
	const record = 1
	switch {
	case size == 0:
		return record
	case size < multipartOver:
		return record + 1
	}
	return record + 2 + (size+partSize-1)/partSize
}

// ledger is the economic side of a situation, in dollars.
type ledger struct {
	rent    float64 // of staying, per second
	hazard  float64 // losses per second
	unsaved float64 // to do the work again
	write   float64 // to write what is not acknowledged, and to have it read from S3
	direct  float64 // to send all that there is over links
}

// ledger reckons what can be done next.
func (s *situation) ledger() ledger {
	c := &s.policy.Costs
	l := ledger{
		rent:   c.Rates.Compute(c.MemoryMB, time.Second),
		hazard: s.policy.Loss.Rate() / 3600,
		direct: c.Rates.Direct(s.bytes),
	}
	l.unsaved = c.Depends + l.rent*max(s.finished.Sub(s.began), 0).Seconds()
	l.write = c.Rates.Store(writeRequests(s.unackedBytes), readsPerPartition*int64(s.unacked), s.unackedBytes, s.unackedBytes)
	l.write += l.rent * s.uploadTime().Seconds()
	return l
}

// waiting is what must be expected, from the start of a wait of d on, that the
// wait costs in rent, and in work lost and to be done again.
func (l *ledger) waiting(d time.Duration) (rent, loss float64) {
	t := max(d, 0).Seconds()
	if l.hazard <= 0 {
		return l.rent * t, 0
	}
	p := -math.Expm1(-l.hazard * t) // the chance of a loss within d
	return l.rent * p / l.hazard, l.unsaved * p
}

// breakEven is how long a producer waits until that has cost as much as the
// write does. All transfers count with the waiting, those that took place
// already and those to come: that makes the sum at most twice the least
// possible, whoever comes when (docs/exchange.md has the proof). ok is false if
// waiting never costs so much.
func (l *ledger) breakEven() (d time.Duration, ok bool) {
	left := l.write - l.direct
	if left <= 0 {
		return 0, true
	}
	var t float64
	if l.hazard <= 0 {
		t = left / l.rent
	} else {
		p := left / (l.rent/l.hazard + l.unsaved)
		if p >= 1 {
			return 0, false
		}
		t = -math.Log1p(-p) / l.hazard
	}
	if !(t < maxWait.Seconds()) { // also if it is not a number
		return 0, false
	}
	return time.Duration(math.Ceil(t * float64(time.Second))), true
}

// maxWait bounds what is told from for ever: no function lives for a day.
const maxWait = 24 * time.Hour

// spentBy is when the compute since the start of the work has cost so much.
func (s *situation) spentBy(dollars float64) (t time.Time, ok bool) {
	c := &s.policy.Costs
	left := dollars - c.Depends
	if left <= 0 {
		return s.finished, true
	}
	d := left / c.Rates.Compute(c.MemoryMB, time.Second)
	if !(d < maxWait.Seconds()) {
		return time.Time{}, false
	}
	return s.began.Add(time.Duration(math.Ceil(d * float64(time.Second)))), true
}
