package client

import (
	"context"
	"sync"
	"time"

	"github.com/bradawl/bradawl/internal/clocksync"
	"github.com/bradawl/bradawl/protocol"
)

const (
	clockBurst    = 4
	clockBurstGap = 5 * time.Millisecond
	// clockMore is how many pings follow the burst, at least clockMoreGap apart, on a way whose round trips differ by more than
	// clockSteady: there the smallest of a few is still far from what the way really takes.
	clockMore     = 16
	clockMoreGap  = 25 * time.Millisecond
	clockSteady   = 2 * time.Millisecond
	clockInterval = 2 * time.Second
	// clockRetry is the interval while a ping is unanswered.
	clockRetry = 500 * time.Millisecond
	// clockMisses is how many pings in a row may stay unanswered before the connection counts as lost.
	clockMisses = 6
	// clockLate is how late a ping may go out on a machine that has time for its peers.
	clockLate = 100 * time.Millisecond
)

// pings are the clock requests of one control connection.
type pings struct {
	mu      sync.Mutex
	last    uint32
	missed  int // since the last reply
	waiting map[uint32]chan time.Duration
	least   time.Duration // of all round trips; 0: none yet
	most    time.Duration
}

// vary tells whether the round trips so far differ by more than clockSteady.
func (p *pings) vary() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.most-p.least > clockSteady
}

// note takes in a round trip. The lock is held.
func (p *pings) note(rtt time.Duration) {
	if p.least == 0 || rtt < p.least {
		p.least = rtt
	}
	p.most = max(p.most, rtt)
}

// ping sends one clock request. reply, if not nil, takes its round trip; it must hold one.
func (ctl *control) ping(reply chan time.Duration) (id uint32, missed int, err error) {
	p := &ctl.pings
	p.mu.Lock()
	p.last++
	p.missed++
	id, missed = p.last, p.missed
	if reply != nil {
		if p.waiting == nil {
			p.waiting = make(map[uint32]chan time.Duration)
		}
		p.waiting[id] = reply
	}
	p.mu.Unlock()
	return id, missed, ctl.qc.SendDatagram(protocol.ClockRequest{ID: id, T1: ctl.c.clock.Now()}.Append(nil))
}

// keepTime pings quickly at first and then regularly; it also notices a server that went without a word.
func (ctl *control) keepTime() {
	done := ctl.qc.Context().Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var heard uint64 // bytes, by the last answered ping
	due := time.Now()
	next := func(d time.Duration) {
		due = time.Now().Add(d)
		timer.Reset(d)
	}
	for n := 1; ; n++ {
		select {
		case <-done:
			return
		case <-timer.C:
		}
		late := time.Since(due)
		_, missed, err := ctl.ping(nil)
		got := ctl.qc.ConnectionStats().BytesReceived
		switch {
		case missed <= 1:
			heard = got
		case missed > clockMisses && (got != heard || late > clockLate || ctl.c.gate.crowded()): // a busy machine, not a server that is gone
			ctl.pings.forgive()
			heard, missed = got, 1
		}
		switch {
		case err != nil || missed > clockMisses:
			_ = ctl.qc.CloseWithError(0, "pings are not answered")
			return
		case n < clockBurst:
			next(clockBurstGap)
		case n == clockBurst || n < clockBurst+clockMore && missed <= 2 && ctl.pings.vary():
			// A round trip apart at least: most of the replies are here by then.
			next(max(clockMoreGap, 3*ctl.qc.ConnectionStats().SmoothedRTT/2))
		case missed > 1:
			next(clockRetry)
		default:
			next(clockInterval)
		}
	}
}

// forgive lets the count of missed pings begin anew.
func (p *pings) forgive() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.missed = 1
}

// readDatagrams takes in the clock replies.
func (ctl *control) readDatagrams() {
	for {
		b, err := ctl.qc.ReceiveDatagram(context.Background()) // ends with the connection
		if err != nil {
			return
		}
		t4 := ctl.c.clock.Now()
		r, err := protocol.ParseClockReply(b)
		if err != nil {
			continue
		}
		s := clocksync.Sample{T1: r.T1, T2: r.T2, T3: r.T3, T4: t4}
		p := &ctl.pings
		p.mu.Lock()
		known := r.ID != 0 && r.ID <= p.last
		var reply chan time.Duration
		if known {
			p.missed = 0
			p.note(s.RTT())
			reply = p.waiting[r.ID]
			delete(p.waiting, r.ID)
		}
		p.mu.Unlock()
		if known {
			ctl.c.clock.Add(s)
		}
		if reply != nil {
			reply <- s.RTT()
		}
	}
}

// Ping measures one round trip to the rendezvous over the control connection.
// It fails with server_unreachable while the client is signed out; after a
// freeze of the process it tells whether the sign-in has survived.
func (c *Client) Ping(ctx context.Context) (time.Duration, error) {
	c.mu.Lock()
	ctl := c.control
	c.mu.Unlock()
	gone := &Error{Op: "ping the rendezvous", Reason: protocol.ReasonServerUnreachable, Detail: "signed out"}
	if ctl == nil {
		return 0, gone
	}
	reply := make(chan time.Duration, 1)
	resend := time.NewTicker(pingResend)
	defer resend.Stop()
	for {
		id, _, err := ctl.ping(reply)
		if err != nil {
			return 0, gone
		}
		select {
		case rtt := <-reply:
			return rtt, nil
		case <-resend.C: // a datagram may be lost
		case <-ctl.qc.Context().Done():
			return 0, gone
		case <-ctx.Done():
			ctl.pings.forget(id)
			return 0, canceled(ctx, "ping the rendezvous", "")
		}
		ctl.pings.forget(id)
	}
}

const pingResend = 250 * time.Millisecond

func (p *pings) forget(id uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiting, id)
}
