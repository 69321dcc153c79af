package exchange

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"
)

// Never is the duration that does not end, for [Policy].
const Never time.Duration = math.MaxInt64

// Policy says how long a producer keeps data in memory only, and how long it
// stays. Its rules hold together: the first that asks for a write has it, and
// the deadline overrules all. [DefaultPolicy] and [AutoPolicy] are good starts;
// the zero value writes through and leaves at once.
//
// What a producer decides depends on nothing but its situation and the time; the
// reasons stand in [ProducerReport].Decisions.
type Policy struct {
	// TimeToSync is how long after Finish the partitions may exist in memory
	// only; then what is not acknowledged is written to S3. 0 is
	// write-through: Finish returns when all is durable. Never risks that the
	// work must be done again when the producer dies. A failed link to a
	// consumer writes at once whatever stands here, except with write-through,
	// where nothing is left to write. Modes S3 (always write-through) and
	// Direct (never writes) ignore it.
	TimeToSync time.Duration
	// TimeToLive is how long after Finish the producer stays for consumers
	// that have not acknowledged. Then it writes what is not acknowledged (not
	// in mode Direct) and leaves. 0 leaves as soon as all is durable; Never
	// stays until the deadline of the context.
	TimeToLive time.Duration
	// CostThreshold is how many US dollars of compute may have been spent since the
	// work began (see ProducerConfig.Since), what it depends on included, before what
	// is not acknowledged is written. 0 means that there is no threshold. It needs
	// Costs, and is used with a TimeToSync above 0.
	CostThreshold float64
	// Auto writes when waiting, since Finish, has cost as much as the write would:
	// the ski-rental rule, which is at most twice as dear as the better of writing at
	// once and never. The waiting costs the function's rent, the transfer if that is
	// charged, and the chance of loss times the work that would be lost; the write
	// costs requests, the time of the upload, and the consumers' reads. After a write the
	// producer leaves without waiting for the end of its TimeToLive. It needs Costs, and
	// is used with a TimeToSync above 0, as of Never.
	Auto bool
	// Costs is what CostThreshold and Auto reckon with.
	Costs Costs
	// Loss is the chance of loss that Auto reckons with.
	Loss Loss
	// UploadRate is the rate to S3 in bytes per second that the deadline rule
	// counts with: what is not acknowledged is written when the deadline of
	// the context is nearer than size/UploadRate + Margin. 0 takes the slowest
	// rate that the Store has measured in this process, or 25 MB/s before the first.
	UploadRate float64
	// Margin is the deadline rule's spare time. 0 means 2 s.
	Margin time.Duration
}

// DefaultPolicy syncs after 2 s and stays a minute.
func DefaultPolicy() Policy {
	return Policy{TimeToSync: 2 * time.Second, TimeToLive: time.Minute}
}

// AutoPolicy lets the costs decide alone, and stays a minute at most.
func AutoPolicy(c Costs) Policy {
	return Policy{TimeToSync: Never, TimeToLive: time.Minute, Auto: true, Costs: c}
}

// memoryVariable is where Lambda tells a function its memory.
const memoryVariable = "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"

// withDefaults checks p and fills in what is empty.
func (p Policy) withDefaults() (Policy, error) {
	if !(p.CostThreshold >= 0) || math.IsInf(p.CostThreshold, 0) {
		return p, fmt.Errorf("exchange: a cost threshold of $%v: use 0 or more", p.CostThreshold)
	}
	if !p.Auto && p.CostThreshold == 0 {
		return p, nil
	}
	c := &p.Costs
	if c.MemoryMB == 0 {
		c.MemoryMB, _ = strconv.Atoi(os.Getenv(memoryVariable)) // 0 is refused below
	}
	switch {
	case c.MemoryMB <= 0:
		return p, errors.New("exchange: Auto and CostThreshold need Policy.Costs.MemoryMB, the function's memory")
	case !(c.Rates.LambdaGBSecond > 0):
		return p, errors.New("exchange: Auto and CostThreshold need Policy.Costs.Rates, the prices: see package price")
	case !(c.Depends >= 0):
		return p, fmt.Errorf("exchange: Policy.Costs.Depends is $%v: use 0 or more", c.Depends)
	}
	return p, nil
}
