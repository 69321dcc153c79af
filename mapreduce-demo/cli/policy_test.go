package cli

import (
	"testing"
	"time"

	"github.com/bradawl/bradawl/lambdaclient/exchange"
)

func TestTheFlagsChooseThePolicy(t *testing.T) {
	costs := exchange.Costs{MemoryMB: 7}
	for _, tc := range []struct {
		mode      exchange.Mode
		sync      string
		toSync    time.Duration
		auto      bool
		staysOpen bool
	}{
		{exchange.Auto, "2s", 2 * time.Second, false, false},
		{exchange.Auto, "0s", 0, false, false},
		{exchange.Auto, "write-through", 0, false, false},
		{exchange.Auto, "never", exchange.Never, false, false},
		{exchange.Auto, "auto", exchange.Never, true, false},
		{exchange.Direct, "auto", exchange.Never, false, true},
	} {
		if err := checkSync(tc.sync); err != nil {
			t.Error(err)
		}
		p := policy(tc.mode, tc.sync, costs)
		if p.TimeToSync != tc.toSync || p.Auto != tc.auto || (p.TimeToLive == exchange.Never) != tc.staysOpen || p.Costs != costs {
			t.Errorf("%s, %s: %+v", tc.mode, tc.sync, p)
		}
	}
}
