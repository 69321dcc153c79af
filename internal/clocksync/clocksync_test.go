package clocksync

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// ping makes the sample of a ping whose ways take there and back, against a server whose clock is offset ahead.
func ping(c *Clock, offset, there, back time.Duration) Sample {
	s := Sample{T1: c.Now()}
	time.Sleep(there)
	s.T2 = c.Now() + int64(offset)
	time.Sleep(time.Millisecond)
	s.T3 = c.Now() + int64(offset)
	time.Sleep(back)
	s.T4 = c.Now()
	return s
}

func TestOffsetAndRTTAreExactWhenBothWaysTakeEquallyLong(t *testing.T) {
	for _, offset := range []time.Duration{0, 5 * time.Second, -3 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			c := New(0)
			if c.Synced() {
				t.Error("a new clock says that it is synced")
			}
			c.Add(ping(c, offset, 7*time.Millisecond, 7*time.Millisecond))
			if !c.Synced() || c.Offset() != offset || c.RTT() != 14*time.Millisecond {
				t.Errorf("synced %v, offset %v, RTT %v; want true, %v, 14ms", c.Synced(), c.Offset(), c.RTT(), offset)
			}
			now := time.Now()
			if got := c.LocalTime(c.ServerTime(now)); !got.Equal(now) {
				t.Errorf("there and back again is %v off", got.Sub(now))
			}
		})
	}
}

func TestErrorStaysWithinHalfTheSmallestRTTUnderQueueing(t *testing.T) {
	const seed = 20261123
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	synctest.Test(t, func(t *testing.T) {
		c := New(8)
		const offset = 42 * time.Second
		for range 200 {
			queue := func() time.Duration { return time.Duration(rng.ExpFloat64() * float64(20*time.Millisecond)) }
			c.Add(ping(c, offset, time.Millisecond+queue(), time.Millisecond+queue()))
			if off := (c.Offset() - offset).Abs(); off > c.RTT()/2 {
				t.Fatalf("offset is %v wrong with an RTT of %v", off, c.RTT())
			}
		}
	})
}

func TestOldSamplesLeaveTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(4)
		c.Add(ping(c, time.Second, time.Millisecond, time.Millisecond))
		for range 4 {
			c.Add(ping(c, 2*time.Second, 5*time.Millisecond, 5*time.Millisecond))
		}
		if c.RTT() != 10*time.Millisecond || c.Offset() != 2*time.Second {
			t.Errorf("RTT %v, offset %v; the first sample still counts", c.RTT(), c.Offset())
		}
		c.Reset()
		if c.Synced() || c.RTT() != 0 {
			t.Error("Reset left an estimate")
		}
	})
}

func TestImplausibleSamplesAreIgnored(t *testing.T) {
	c := New(0)
	for name, s := range map[string]Sample{
		"reply before request":        {T1: 10, T2: 1, T3: 1, T4: 5},
		"server sent before it heard": {T1: 0, T2: 5, T3: 3, T4: 10},
		"server took longer than all": {T1: 0, T2: 0, T3: 20, T4: 10},
	} {
		if c.Add(s) || c.Synced() {
			t.Errorf("%s: accepted", name)
		}
	}
}
