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
		why := context.Cause(ctl.qc.Context())
		c.emit(Event{Kind: EventControlLost, Err: why})
		if e := farewell(why); e != nil && !c.stayAway(e) {
			return
		}
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
		if e, ok := errors.AsType[*Error](err); ok && e.refused && e.Reason != protocol.ReasonLimited {
			if !c.stayAway(e) {
				return nil
			}
			wait.Reset()
			continue
		}
		delay := wait.NextBackOff()
		hurry := c.noteSignedOut(err)
		c.emit(Event{Kind: EventRetrying, Delay: delay, Err: err})
		if !c.sleep(delay, hurry) {
			return nil
		}
	}
}

// The codes of section 3 of the specification with which the rendezvous closes a
// control connection for good.
const (
	closeProtocol = 1
	closeRefused  = 2
	closeReplaced = 3
)

// farewell returns the reason if a control connection has ended for one that forbids to come back, else nil.
func farewell(err error) *Error {
	app, ok := errors.AsType[*quic.ApplicationError](err)
	if !ok || !app.Remote {
		return nil
	}
	switch app.ErrorCode {
	case closeProtocol:
		return &Error{Reason: protocol.ReasonCanceled, Detail: app.ErrorMessage, Err: ErrProtocol}
	case closeRefused:
		if app.ErrorMessage == string(protocol.ReasonLimited) {
			return nil
		}
		return &Error{Reason: protocol.ReasonUnauthorized, Detail: "the rendezvous has sent this client away", Err: err}
	case closeReplaced:
		return &Error{Reason: protocol.ReasonCanceled, Err: ErrReplaced}
	}
	return nil
}

// stayAway ends everything that needs the rendezvous, for the reason e, until
// Resume asks to try again. It reports false when the client is closed instead.
// Connections to peers stay.
func (c *Client) stayAway(e *Error) bool {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return false
	}
	c.sentOff, c.outErr = e, e
	resumed := c.hurry.wait()
	requests := c.requests
	c.requests = make(map[uint64]request)
	c.changed.broadcast()
	c.mu.Unlock()
	for _, r := range requests {
		r.refuse(e.again())
	}
	c.emit(Event{Kind: EventSentOff, Err: e.again()})
	select {
	case <-resumed:
		return true
	case <-c.ctx.Done():
		return false
	}
}

// whenSentOff calls stop with the reason when the client is sent off, unless ctx ends before.
func (c *Client) whenSentOff(ctx context.Context, stop context.CancelCauseFunc) {
	for {
		c.mu.Lock()
		e, changed := c.sentOff, c.changed.wait()
		c.mu.Unlock()
		if e != nil {
			stop(e.again())
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
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
// process was frozen, or to try again when the rendezvous has sent the client
// off (see [Status]). It fails with the [*Error] of a sign-in that was refused,
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
		if first || c.sentOff != nil && !c.sentOff.refused { // only an answer to a new sign-in counts
			c.sentOff = nil
		}
		now, dead, refused, closed := c.control, c.dead, c.sentOff, c.closed
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
		case refused != nil:
			return c.askError(refused.again(), "resume", "")
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return canceled(ctx, "resume", "")
		}
	}
}
