package client

import (
	"testing"
	"time"
)

func passes(n int, woken *int) []*pass {
	out := make([]*pass, n)
	for i := range out {
		out[i] = &pass{wake: func() { *woken++ }}
	}
	return out
}

func TestGateLetsInAsManyAsThereIsRoomForInOrder(t *testing.T) {
	var g gate
	var woken int
	now := time.Unix(1, 0)
	all := passes(20, &woken)
	for i, p := range all {
		if good := g.enter(p, now); good != (i < gateFirst) {
			t.Errorf("pass %d is good: %v", i, good)
		}
	}
	if g.enter(all[0], now) != true || g.enter(all[19], now) != false || woken != gateFirst {
		t.Errorf("asked twice; %d woken", woken)
	}
	g.leave(all[gateFirst], now, 0) // gives up waiting
	g.leave(all[0], now, 0)
	g.leave(all[0], now, 0)
	if g.enter(all[gateFirst], now) || !g.enter(all[gateFirst+1], now) || g.enter(all[gateFirst+2], now) {
		t.Error("one place became free, and not the next in line who still waits has it")
	}
	for _, p := range all {
		g.leave(p, now, 0)
	}
	if g.busy != 0 || len(g.waiting) != 0 {
		t.Errorf("%d busy, %d waiting", g.busy, len(g.waiting))
	}
}

func TestGateFollowsHowLongHandshakesTake(t *testing.T) {
	const rtt = 10 * time.Millisecond
	for _, tc := range []struct {
		name        string
		took        time.Duration
		rounds      int
		atLeast, at int // most
	}{
		{"quick ones widen it", 2 * rtt, 100, 100, gateMost},
		{"never without end", 2 * rtt, 1000, gateMost, gateMost},
		{"as expected", 3*rtt + gateQuick, 100, gateFirst, gateFirst},
		{"slow ones narrow it", time.Second, 100, gateLeast, gateLeast},
	} {
		var g gate
		var woken int
		now := time.Unix(1, 0)
		for range tc.rounds {
			p := passes(1, &woken)[0]
			if !g.enter(p, now) {
				t.Fatal("the gate is closed")
			}
			now = now.Add(tc.took)
			g.leave(p, now, rtt)
		}
		if g.limit < tc.atLeast || g.limit > tc.at {
			t.Errorf("%s: the limit is %d", tc.name, g.limit)
		}
	}
}

func TestGateHalvesOncePerRound(t *testing.T) {
	var g gate
	var woken int
	now := time.Unix(1, 0)
	all := passes(gateFirst, &woken)
	for _, p := range all {
		g.enter(p, now)
	}
	for _, p := range all {
		now = now.Add(time.Millisecond)
		g.leave(p, now.Add(time.Second), time.Millisecond)
	}
	if g.limit != gateFirst/2 {
		t.Errorf("the limit is %d after one slow round", g.limit)
	}
}
