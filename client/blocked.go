package client

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/bradawl/bradawl/protocol"
)

const (
	// blockageAfter is how long the QUIC handshake may take before it is looked into.
	blockageAfter = 250 * time.Millisecond
	// blockageGap is the time between STUN requests over UDP, of which blockageAsks must have gone unanswered before UDP
	// counts as blocked: with 5 % of loss on each of four links, that is chance once in a million times.
	blockageGap  = 100 * time.Millisecond
	blockageAsks = 9
)

var errUDPBlocked = errors.New("TCP reaches the server's port, UDP does not")

// findBlockage tells blocked UDP from a server that is not there: it cancels the handshake when TCP reaches the server and
// none of many STUN requests over UDP is answered, for half as long again as TCP took.
func (c *Client) findBlockage(ctx context.Context, server netip.AddrPort, cancel context.CancelCauseFunc) {
	wait := time.NewTimer(blockageAfter)
	defer wait.Stop()
	select {
	case <-ctx.Done():
		return
	case <-wait.C:
	}
	began := time.Now()
	reached := make(chan time.Duration, 1)
	ctx, stop := context.WithCancel(ctx)
	var dial sync.WaitGroup
	defer dial.Wait()
	defer stop()
	dial.Go(func() {
		if conn, err := c.cfg.DialTCP(ctx, "tcp", server.String()); err == nil {
			_ = conn.Close()
			reached <- time.Since(began)
		}
	})
	p := &probe{from: server, answer: make(chan netip.AddrPort, 1)}
	var tids [][12]byte
	defer func() { c.sessions.forget(tids...) }()
	byTCP := time.Duration(-1) // not yet
	for gap := blockageGap; ; {
		if len(tids) >= blockageAsks {
			if byTCP >= 0 && time.Since(began) > byTCP*3/2 {
				cancel(errUDPBlocked)
				return
			}
			gap = 3 * blockageGap
		}
		tid := newTransaction()
		tids = append(tids, tid)
		c.sessions.sent(tid, p)
		c.write(protocol.AppendBindingRequest(nil, tid), server)
		wait.Reset(gap)
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return
			case <-p.answer:
				return // the server is there, and slow
			case byTCP = <-reached:
			case <-wait.C:
				waiting = false
			}
		}
	}
}
