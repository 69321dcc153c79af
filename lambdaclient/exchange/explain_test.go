package exchange

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestEveryPartitionIsExplained(t *testing.T) {
	t.Parallel()
	const sec = time.Second
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	// Rent is 1e-5 $/s. A write of all four is 4 MB in 1 s: 2 PUTs, 8 GETs, the upload; 2.08e-5 $.
	base := func() account {
		return account{now: at(10 * sec), finished: start, mode: Auto, policy: costly(Policy{}), rate: 4e6,
			parts: []fate{{bytes: 1e6}, {bytes: 1e6}, {bytes: 2e6}, {}}}
	}
	cases := []struct {
		name   string
		change func(*account)
		sync   [4]SyncCause
		kept   [4]KeepCause
		waits  [4]time.Duration
		cost   float64 // of all
		saved  float64
	}{
		{name: "nothing has happened yet", change: func(a *account) { a.now = start },
			kept: [4]KeepCause{KeptOpen, KeptOpen, KeptOpen, KeptOpen}, saved: 2.08e-5},
		{name: "all acknowledged in time", change: func(a *account) {
			for i := range a.parts {
				a.parts[i].acked = at(time.Duration(i) * sec / 4)
			}
		}, kept: [4]KeepCause{KeptAcked, KeptAcked, KeptAcked, KeptAcked}, waits: [4]time.Duration{0, sec / 4, sec / 2, sec * 3 / 4},
			cost: 0.75e-5, saved: 1.33e-5},
		{name: "transfer is charged", change: func(a *account) {
			a.policy.Costs.Rates.TransferCharged = true
			for i := range a.parts {
				a.parts[i].acked = start
			}
		}, kept: [4]KeepCause{KeptAcked, KeptAcked, KeptAcked, KeptAcked}, cost: 8e-5, saved: 2.08e-5 - 8e-5},
		{name: "written in part", change: func(a *account) {
			a.parts[0].acked, a.parts[3].acked = at(sec), at(5*sec) // the last one after the write
			a.parts[1].written, a.parts[2].written, a.parts[3].written = true, true, true
			a.sync, a.durable, a.won = SyncWaited, at(2*sec), true
			// 2 PUTs, 6 GETs, 0.75 s, and 2 s of waiting.
		}, sync: [4]SyncCause{SyncNone, SyncWaited, SyncWaited, SyncWaited}, kept: [4]KeepCause{KeptAcked, "", "", ""},
			waits: [4]time.Duration{sec, 2 * sec, 2 * sec, 2 * sec}, cost: 1.81e-5 + 2e-5, saved: 2.08e-5 - 3.81e-5},
		{name: "another attempt's record counts", change: func(a *account) {
			for i := range a.parts {
				a.parts[i].written = true
			}
			a.sync, a.durable = SyncDeadline, start
		}, kept: [4]KeepCause{KeptOther, KeptOther, KeptOther, KeptOther}, cost: 2.08e-5},
		{name: "the write failed", change: func(a *account) { a.failed = true },
			kept:  [4]KeepCause{KeptFailed, KeptFailed, KeptFailed, KeptFailed},
			waits: [4]time.Duration{10 * sec, 10 * sec, 10 * sec, 10 * sec}, cost: 1e-4, saved: 2.08e-5 - 1e-4},
		{name: "mode direct", change: func(a *account) { a.mode, a.rate = Direct, 0 },
			kept:  [4]KeepCause{KeptMode, KeptMode, KeptMode, KeptMode},
			waits: [4]time.Duration{10 * sec, 10 * sec, 10 * sec, 10 * sec}, cost: 1e-4, saved: 1.08e-5 - 1e-4},
		{name: "without prices", change: func(a *account) { a.policy = Policy{} },
			kept:  [4]KeepCause{KeptOpen, KeptOpen, KeptOpen, KeptOpen},
			waits: [4]time.Duration{10 * sec, 10 * sec, 10 * sec, 10 * sec}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			a := base()
			tc.change(&a)
			var cost, saved float64
			for i, d := range a.explain() {
				if d.Partition != i || d.Bytes != a.parts[i].bytes || d.Sync != tc.sync[i] || d.Kept != tc.kept[i] || d.Wait != tc.waits[i] {
					t.Errorf("%+v, want %q or %q after %v", d, tc.sync[i], tc.kept[i], tc.waits[i])
				}
				cost, saved = cost+d.Cost, saved+d.Saved
			}
			if math.Abs(cost-tc.cost) > 1e-12 || math.Abs(saved-tc.saved) > 1e-12 {
				t.Errorf("cost %g, saved %g, want %g and %g", cost, saved, tc.cost, tc.saved)
			}
		})
	}
}

func TestADecisionIsASentence(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]Decision{
		"partition 3 (70 bytes) written: deadline, after 2s; cost $1e-05, saved $-2e-06":             {Partition: 3, Bytes: 70, Sync: SyncDeadline, Wait: 2 * time.Second, Cost: 1e-5, Saved: -2e-6},
		"partition 0 (0 bytes) not written: acknowledged first, after 1ms; cost $0, saved $1.23e-05": {Kept: KeptAcked, Wait: time.Millisecond, Saved: 1.234e-5},
	} {
		if got := d.String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestAPolicyInDollarsNeedsPricesAndMemory(t *testing.T) {
	rates := costly(Policy{}).Costs.Rates
	for _, tc := range []struct {
		name   string
		policy Policy
		memory string // of the environment
		says   string
	}{
		{name: "no dollars, no prices"},
		{name: "complete", policy: Policy{Auto: true, Costs: Costs{Rates: rates, MemoryMB: 128}}},
		{name: "memory from Lambda", policy: Policy{CostThreshold: 1, Costs: Costs{Rates: rates}}, memory: "512"},
		{name: "no memory", policy: Policy{Auto: true, Costs: Costs{Rates: rates}}, says: "MemoryMB"},
		{name: "nonsense from Lambda", policy: Policy{Auto: true, Costs: Costs{Rates: rates}}, memory: "much", says: "MemoryMB"},
		{name: "no rates", policy: Policy{CostThreshold: 1, Costs: Costs{MemoryMB: 128}}, says: "Rates"},
		{name: "negative threshold", policy: Policy{CostThreshold: -1}, says: "threshold"},
		{name: "no threshold at all", policy: Policy{CostThreshold: math.NaN()}, says: "threshold"},
		{name: "negative dependencies", policy: Policy{Auto: true, Costs: Costs{Rates: rates, MemoryMB: 128, Depends: -1}}, says: "Depends"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv(memoryVariable, tc.memory)
			p, err := NewProducer(t.Context(), ProducerConfig{Shuffle: Shuffle{Job: "j", Producers: 1, Consumers: 1}, Mode: Direct, Network: silent{}, Policy: tc.policy})
			if err == nil {
				defer p.Close()
			}
			switch {
			case tc.says == "" && err != nil, tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)):
				t.Errorf("error %v, want one that says %q", err, tc.says)
			case tc.memory == "512" && p.cfg.Policy.Costs.MemoryMB != 512:
				t.Errorf("%d MB", p.cfg.Policy.Costs.MemoryMB)
			}
		})
	}
}
