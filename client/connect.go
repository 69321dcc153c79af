package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

type connectOptions struct {
	wait  time.Duration
	exact bool
	// replaces is the session whose lost link the new one replaces.
	replaces protocol.SessionID
}

// ConnectOption changes how Connect goes about it.
type ConnectOption func(*connectOptions)

// WaitForPeer lets the rendezvous wait so long for the peer to sign in. Without
// it Connect to a peer that is not there fails with no_peer at once.
func WaitForPeer(d time.Duration) ConnectOption {
	return func(o *connectOptions) { o.wait = max(0, d) }
}

// Exact has both sides fire at one common instant instead of as their orders
// come in. It costs a little waiting.
func Exact() ConnectOption {
	return func(o *connectOptions) { o.exact = true }
}

// Connect makes a direct connection to the named peer of the group. It returns
// when the handshake is complete; [Conn.Proven] tells when the path is proven.
// Both sides may call Connect for each other at the same time: they get the two
// ends of one connection. The error is an [*Error].
//
// ctx bounds the whole of it. While the rendezvous is away Connect waits for it
// to come back, at most Config.ServerTimeout.
func (c *Client) Connect(ctx context.Context, peer string, opts ...ConnectOption) (*Conn, error) {
	if peer == "" || len(peer) > protocol.MaxNameLen {
		return nil, &Error{Op: "connect", Peer: peer, Err: fmt.Errorf("a peer's name has 1 to %d bytes", protocol.MaxNameLen)}
	}
	return c.connect(ctx, peer, opts)
}

func (c *Client) connect(ctx context.Context, peer string, opts []ConnectOption) (*Conn, error) {
	r := &connectRequest{peer: peer, started: time.Now(), result: make(chan connectResult, 1)}
	for _, o := range opts {
		o(&r.options)
	}
	if err := c.ask(func(id uint64) request { r.number = id; return r }); err != nil {
		return nil, c.askError(err, "connect", peer)
	}
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	var res connectResult
	select {
	case res = <-r.result:
	case <-ctx.Done():
		if c.abandon(r) {
			return nil, canceled(ctx, "connect", peer)
		}
		res = <-r.result // it was over at the same moment
	case err := <-c.serverGone(waiting, r.started):
		if c.abandon(r) {
			err.Op, err.Peer = "connect", peer
			return nil, err
		}
		res = <-r.result
	}
	if res.err != nil {
		return nil, res.err
	}
	return res.conn, nil
}

// abandon withdraws a Connect and ends the session that only it wanted.
func (c *Client) abandon(r *connectRequest) bool {
	if !c.withdraw(r) {
		return false
	}
	c.send(&pb.ClientMessage{Body: &pb.ClientMessage_Cancel{Cancel: &pb.Cancel{RequestId: r.number}}})
	c.mu.Lock()
	s := r.session
	c.mu.Unlock()
	if s == nil {
		return true
	}
	s.mu.Lock()
	s.request = nil
	ours := s.solicited
	s.mu.Unlock()
	if ours {
		c.sessions.mu.RLock()
		a := s.current
		c.sessions.mu.RUnlock()
		if a != nil && a.abort(context.Canceled) {
			c.sessions.remove(s)
		}
	}
	return true
}

func (c *Client) askError(err error, op, peer string) error {
	if errors.Is(err, ErrClosed) {
		return closedError(op, peer)
	}
	if e, ok := errors.AsType[*Error](err); ok {
		e.Op, e.Peer = op, peer
		return e
	}
	return &Error{Op: op, Peer: peer, Err: err}
}

// serverGone yields an error when the client has been signed out for longer
// than Config.ServerTimeout, counted from since at the earliest. It ends with ctx.
func (c *Client) serverGone(ctx context.Context, since time.Time) <-chan *Error {
	out := make(chan *Error, 1)
	var check func()
	check = func() {
		c.mu.Lock()
		in, from, why := c.control != nil, c.outSince, c.outErr
		c.mu.Unlock()
		if from.Before(since) {
			from = since
		}
		left := c.cfg.ServerTimeout - time.Since(from)
		switch {
		case ctx.Err() != nil:
			return
		case in:
			left = c.cfg.ServerTimeout
		case left <= 0:
			out <- awayError(c.cfg.ServerTimeout, why)
			return
		}
		c.later(ctx, left, check)
	}
	c.later(ctx, c.cfg.ServerTimeout, check)
	return out
}

// awayError says why the rendezvous could not be asked; why is what came of the last sign-in.
func awayError(limit time.Duration, why error) *Error {
	e := &Error{Reason: protocol.ReasonServerUnreachable, Err: why,
		Detail: fmt.Sprintf("signed out for %v, the rendezvous does not come back", limit)}
	if r := ReasonOf(why); r != protocol.ReasonOK && r != protocol.ReasonCanceled {
		e.Reason = r
	}
	return e
}

// later calls f after d unless ctx ends before.
func (c *Client) later(ctx context.Context, d time.Duration, f func()) {
	t := time.AfterFunc(d, f)
	context.AfterFunc(ctx, func() { t.Stop() })
}

// Accept waits for a connection that another peer asked for by Connect.
// Connections that nobody accepts are kept; beyond 1024 they are refused.
func (c *Client) Accept(ctx context.Context) (*Conn, error) {
	waiting, stop := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer stop(nil)
	watch.Go(func() { c.whenSentOff(waiting, stop) })
	conn, err := c.accepted.pop(waiting)
	if err == nil {
		return conn, nil
	}
	if ctx.Err() != nil {
		return nil, canceled(ctx, "accept", "")
	}
	return nil, c.askError(err, "accept", "")
}

// WaitPeers waits until n peers of a role, or with an empty role any n, have
// signed in, this one included if it matches, and returns those that are there.
func (c *Client) WaitPeers(ctx context.Context, n int, role string) ([]Peer, error) {
	if n < 0 {
		n = 0
	}
	r := &watchRequest{role: role, min: n, result: make(chan watchResult, 1)}
	if err := c.ask(func(id uint64) request { r.number = id; return r }); err != nil {
		return nil, c.askError(err, "wait for peers", "")
	}
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	var res watchResult
	select {
	case res = <-r.result:
	case <-ctx.Done():
		if c.withdraw(r) {
			return nil, canceled(ctx, "wait for peers", "")
		}
		res = <-r.result
	case err := <-c.serverGone(waiting, time.Now()):
		if c.withdraw(r) {
			err.Op = "wait for peers"
			return nil, err
		}
		res = <-r.result
	}
	if res.err != nil {
		return nil, res.err
	}
	return res.peers, nil
}
