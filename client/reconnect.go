package client

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/quic-go/quic-go"

	"github.com/bradawl/bradawl/protocol"
)

const (
	reconnectFirst = 100 * time.Millisecond
	reconnectMax   = 5 * time.Second
	// reconnectSignIn bounds one sign-in after the first, so that a server that
	// comes back is found soon.
	reconnectSignIn = 3 * time.Second
	maxDrainDelay   = time.Minute
	resumePing      = 400 * time.Millisecond
)

// supervise brings the control connection back whenever it is lost.
func (c *Client) supervise(ctl *control) {
	for {
		select {
		case <-c.ctx.Done():
		case <-ctl.lost:
		case delay := <-ctl.drain:
			delay = min(max(delay, 0), maxDrainDelay)
			c.emit(Event{Kind: EventDraining, Delay: delay})
			c.sleep(delay, ctl.lost) // until then the old connection serves
		}
		c.mu.Lock()
		if c.control == ctl {
			c.control = nil
			c.outSince = time.Now()
		}
		closed := c.closed
		c.mu.Unlock()
		if closed {
			ctl.close()
			return
		}
		ctl.close()
		<-ctl.lost
		c.emit(Event{Kind: EventControlLost, Err: context.Cause(ctl.qc.Context())})
		next := c.signInAgain()
		if next == nil {
			return
		}
		c.adopt(next)
		ctl = next
	}
}

// sleep waits for d or until is closed; it reports false if the client is closed meanwhile.
func (c *Client) sleep(d time.Duration, until <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-until:
		return true
	case <-c.ctx.Done():
		return false
	}
}

// signInAgain tries until it works. It returns nil when the client is closed or its socket has died.
func (c *Client) signInAgain() *control {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = reconnectFirst, reconnectMax
	for {
		server, err := c.resolve(c.ctx)
		if err == nil {
			var ctl *control
			if ctl, err = c.signIn(c.ctx, server, reconnectSignIn); err == nil {
				return ctl
			}
		}
		if c.ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, quic.ErrTransportClosed) { // the socket is dead, for example after a freeze
			c.fatal(err)
			return nil
		}
		delay := wait.NextBackOff()
		hurry := c.noteSignedOut(err)
		c.emit(Event{Kind: EventRetrying, Delay: delay, Err: err})
		if !c.sleep(delay, hurry) {
			return nil
		}
	}
}

// fatal ends what can never succeed because the socket has died.
func (c *Client) fatal(err error) {
	c.mu.Lock()
	c.dead = err
	requests := c.requests
	c.requests = make(map[uint64]request)
	c.changed.broadcast()
	c.mu.Unlock()
	for _, r := range requests {
		r.refuse(deadError(err))
	}
	c.accepted.close(deadError(err), false)
}

// noteSignedOut keeps why the last sign-in failed. What it returns is closed when somebody is in a hurry.
func (c *Client) noteSignedOut(err error) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outErr = err
	c.changed.broadcast()
	return c.hurry.wait()
}

// Resume makes sure that the client is signed in: it asks the rendezvous for a
// sign of life and, if none comes, signs in again at once. Call it after the
// process was frozen. It fails with the [*Error] of a sign-in that was refused,
// with server_unreachable if the socket has died, and when ctx ends.
func (c *Client) Resume(ctx context.Context) error {
	c.mu.Lock()
	ctl := c.control
	c.mu.Unlock()
	if ctl != nil {
		pctx, cancel := context.WithTimeout(ctx, resumePing)
		_, err := c.Ping(pctx)
		cancel()
		if err == nil {
			return nil
		}
		ctl.close() // the supervisor notices
	}
	for first := true; ; first = false {
		c.mu.Lock()
		now, dead, refused, closed := c.control, c.dead, c.outErr, c.closed
		changed := c.changed.wait()
		c.hurry.broadcast()
		c.mu.Unlock()
		switch {
		case closed:
			return closedError("resume", "")
		case dead != nil:
			return c.askError(deadError(dead), "resume", "")
		case now != nil && now != ctl:
			return nil
		case !first && ReasonOf(refused) == protocol.ReasonUnauthorized:
			return refused
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return canceled(ctx, "resume", "")
		}
	}
}
