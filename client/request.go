package client

import (
	"time"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

// request is what a caller waits for and the server knows by a number. It is
// kept until it is over, and sent again after each sign-in.
type request interface {
	id() uint64
	// message asks the server for it.
	message() *pb.ClientMessage
	// refuse ends it. The request is out of Client.requests by then.
	refuse(err *Error)
}

// connectRequest is a call of Connect.
type connectRequest struct {
	number  uint64
	peer    string
	options connectOptions
	started time.Time
	result  chan connectResult // takes exactly one

	session *session // that serves it; guarded by Client.mu
	resent  bool     // guarded by Client.mu
}

type connectResult struct {
	conn *Conn
	err  *Error
}

func (r *connectRequest) id() uint64 { return r.number }

func (r *connectRequest) message() *pb.ClientMessage {
	m := &pb.Connect{RequestId: r.number, Peer: r.peer, WaitNs: int64(r.options.wait), Exact: r.options.exact}
	if r.options.replaces != (protocol.SessionID{}) {
		m.Replaces = r.options.replaces[:]
	}
	return &pb.ClientMessage{Body: &pb.ClientMessage_Connect{Connect: m}}
}

func (r *connectRequest) refuse(err *Error) {
	err.Op, err.Peer = "connect", r.peer
	r.result <- connectResult{err: err}
}

// watchRequest is a call of WaitPeers.
type watchRequest struct {
	number uint64
	role   string
	min    int
	result chan watchResult // takes exactly one
}

type watchResult struct {
	peers []Peer
	err   *Error
}

func (r *watchRequest) id() uint64 { return r.number }

func (r *watchRequest) message() *pb.ClientMessage {
	return &pb.ClientMessage{Body: &pb.ClientMessage_WatchPeers{WatchPeers: &pb.WatchPeers{
		RequestId: r.number, Role: r.role, Min: uint32(r.min)}}}
}

func (r *watchRequest) refuse(err *Error) {
	err.Op = "wait for peers"
	r.result <- watchResult{err: err}
}

// nextID returns a request id that was never used before. c.mu is held.
func (c *Client) nextID() uint64 {
	c.lastID++
	return c.lastID
}

// ask registers a request, made by build with its number, and sends it if the
// client is signed in; else the next sign-in does.
func (c *Client) ask(build func(id uint64) request) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return ErrClosed
	}
	if e := c.sentOff; e != nil {
		c.mu.Unlock()
		return e.again()
	}
	r := build(c.nextID())
	c.requests[r.id()] = r
	ctl := c.control
	c.mu.Unlock()
	if ctl != nil {
		ctl.send(r.message())
	}
	return nil
}

// renumber takes a Connect back to be asked for again under a new number.
func (c *Client) renumber(r *connectRequest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.pending(r) {
		return false
	}
	delete(c.requests, r.number)
	r.session = nil
	r.number = c.nextID()
	c.requests[r.number] = r
	return true
}

// withdraw removes a request; it reports false when it was over already.
func (c *Client) withdraw(r request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.pending(r) {
		return false
	}
	delete(c.requests, r.id())
	return true
}

// finish ends a Connect; it reports false when it was over already.
func (c *Client) finish(r *connectRequest, res connectResult) bool {
	c.mu.Lock()
	if !c.pending(r) {
		c.mu.Unlock()
		return false
	}
	delete(c.requests, r.number)
	again := r.resent && res.conn != nil && res.conn.session != r.session
	c.mu.Unlock()
	r.result <- res
	if again { // an older session was faster than the one that it was asked for again
		c.send(&pb.ClientMessage{Body: &pb.ClientMessage_Cancel{Cancel: &pb.Cancel{RequestId: r.number}}})
	}
	return true
}

// handleRefused ends a request that the server will not serve.
func (c *Client) handleRefused(m *pb.Refused) {
	c.mu.Lock()
	r := c.requests[m.GetRequestId()]
	delete(c.requests, m.GetRequestId())
	c.mu.Unlock()
	if r != nil {
		r.refuse(&Error{Reason: protocol.ReasonFromPB(m.GetReason()), Detail: m.GetDetail()})
	}
}

// handlePeers answers a WaitPeers.
func (c *Client) handlePeers(m *pb.Peers) {
	c.mu.Lock()
	r, ok := c.requests[m.GetRequestId()].(*watchRequest)
	if ok {
		delete(c.requests, m.GetRequestId())
	}
	c.mu.Unlock()
	if !ok {
		return
	}
	var res watchResult
	for _, p := range m.GetPeers() {
		if peer, err := peerFromPB(p); err == nil {
			res.peers = append(res.peers, peer)
		}
	}
	r.result <- res
}
