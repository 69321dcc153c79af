package client

import (
	"sync"
	"time"
)

// A group's order may start hundreds of handshakes at once. More of them than the processor can do, and packets wait at full sockets
// until QUIC takes them for lost and sends them again, which makes it worse. So of the sessions of a large order only some
// dial at once; the others have opened their NATs meanwhile. How many, the gate finds out as TCP finds its window: one more after each handshake
// that took little longer than the path's round trips, half as many after one that took much longer.
const (
	// burstAbove is how many sessions of one order dial freely.
	burstAbove = 8
	gateFirst  = 4
	gateLeast  = 1
	gateMost   = 256
	// gateQuick and gateSlow are how long a handshake may take beside two round trips to count as quick, and at least to count as slow.
	gateQuick = 20 * time.Millisecond
	gateSlow  = 80 * time.Millisecond
	// gateSlack is how late a handshake behind the gate may be before another one is tried: its path was open before it began, so only
	// loss can have stopped it, which QUIC sees to itself, and more handshakes are the last thing that a busy machine needs.
	gateSlack = 5 * time.Second
	// handshakeCost is what a small machine needs for one of the handshakes that it makes at the same time.
	handshakeCost = 5 * time.Millisecond
)

// gate bounds the handshakes under way. The zero value is ready. Safe for concurrent use.
type gate struct {
	mu      sync.Mutex
	limit   int // 0: gateFirst
	busy    int
	waiting []*pass
	cut     time.Time // when the limit was last halved
}

// pass is one attempt's place at the gate.
type pass struct {
	wake  func() // called, under the gate's lock, when the pass is good
	state passState
	since time.Time // when it was given
}

type passState uint8

const (
	passNone passState = iota
	passWaiting
	passGood
	passOver
)

// enter asks for a place, once; it reports whether the pass is good.
func (g *gate) enter(p *pass, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p.state == passNone {
		p.state = passWaiting
		g.waiting = append(g.waiting, p)
		g.admit(now)
	}
	return p.state == passGood
}

// crowded tells whether handshakes wait: the machine is busy.
func (g *gate) crowded() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting) > 0
}

// admit lets in as many as there is room for. The lock is held.
func (g *gate) admit(now time.Time) {
	if g.limit == 0 {
		g.limit = gateFirst
	}
	for g.busy < g.limit && len(g.waiting) > 0 {
		p := g.waiting[0]
		g.waiting[0] = nil
		g.waiting = g.waiting[1:]
		if p.state == passWaiting {
			p.state, p.since = passGood, now
			g.busy++
			p.wake()
		}
	}
}

// leave gives the place back. rtt is the path's, if the handshake is complete, else 0. Further calls do nothing.
func (g *gate) leave(p *pass, now time.Time, rtt time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	had := p.state == passGood
	p.state = passOver
	if !had {
		return
	}
	g.busy--
	took := now.Sub(p.since)
	switch {
	case rtt == 0:
	case took < 2*rtt+gateQuick:
		g.limit = min(g.limit+1, gateMost)
	case took > 4*rtt+gateSlow && p.since.After(g.cut):
		g.limit = max(g.limit/2, gateLeast)
		g.cut = now // handshakes that began before do not count again
	}
	g.admit(now)
}
