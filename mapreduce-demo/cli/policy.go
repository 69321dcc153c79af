package cli

import (
	"fmt"
	"time"

	"github.com/bradawl/bradawl/lambdaclient/exchange"
)

// The values of --sync that are no durations.
const (
	syncThrough = "write-through"
	syncNever   = "never"
	syncAuto    = "auto"
)

// checkSync finds a wrong --sync.
func checkSync(sync string) error {
	switch sync {
	case syncThrough, syncNever, syncAuto:
		return nil
	}
	if d, err := time.ParseDuration(sync); err != nil || d < 0 {
		return fmt.Errorf("--sync is %q; it must be %s, %s, %s or a duration as 2s", sync, syncThrough, syncNever, syncAuto)
	}
	return nil
}

// policy says how long mappers keep partitions in memory only. Directly there is
// nothing else, and they stay for as long as they are needed.
func policy(mode exchange.Mode, sync string, costs exchange.Costs) exchange.Policy {
	p := exchange.DefaultPolicy()
	switch {
	case mode == exchange.Direct:
		p.TimeToSync, p.TimeToLive = exchange.Never, exchange.Never
	case sync == syncThrough:
		p.TimeToSync = 0
	case sync == syncNever:
		p.TimeToSync = exchange.Never
	case sync == syncAuto:
		p = exchange.AutoPolicy(costs)
	default:
		p.TimeToSync, _ = time.ParseDuration(sync) // checkSync has seen it
	}
	p.Costs = costs // each decision is explained in dollars, whatever made it
	return p
}
