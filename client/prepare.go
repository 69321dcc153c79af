package client

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

const (
	// maxPrepared bounds the sockets that are being prepared or wait for their orders.
	maxPrepared = 64
	// preparedKeep is how long one waits.
	preparedKeep = 10 * time.Second
)

// prepared holds the sockets that the server has asked for, until their orders come. It is safe for concurrent use.
type prepared struct {
	mu    sync.Mutex
	ready map[preparedFor]*readyOutlet // nil: still being prepared
}

// preparedFor names the attempt that a socket is for.
type preparedFor struct {
	session protocol.SessionID
	attempt uint32
}

type readyOutlet struct {
	out   *outlet
	taken chan struct{} // closed when its order has come
}

// reserve makes room for a socket. It reports false if there is none, or one for that attempt already.
func (p *prepared) reserve(at preparedFor) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, there := p.ready[at]; there || len(p.ready) >= maxPrepared {
		return false
	}
	p.ready[at] = nil
	return true
}

// put fills the room.
func (p *prepared) put(at preparedFor, o *outlet) *readyOutlet {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &readyOutlet{out: o, taken: make(chan struct{})}
	p.ready[at] = r
	return r
}

// cancel gives the room back.
func (p *prepared) cancel(at preparedFor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.ready, at)
}

// take returns the socket for an attempt, or nil. It is the caller's then.
func (p *prepared) take(at preparedFor) *outlet {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.ready[at]
	if r == nil {
		return nil
	}
	delete(p.ready, at)
	close(r.taken)
	return r.out
}

// handlePrepare opens a socket, has its address witnessed and says so. It does not block.
func (c *Client) handlePrepare(ctl *control, m *pb.Prepare) {
	id, err := protocol.SessionIDFromBytes(m.GetSessionId())
	at := preparedFor{id, m.GetAttempt()}
	if err != nil || at.attempt == 0 || !c.prepared.reserve(at) {
		return
	}
	c.wg.Go(func() { c.prepare(ctl, at, m.GetAlternate()) })
}

func (c *Client) prepare(ctl *control, at preparedFor, alternate bool) {
	answer := &pb.Prepared{SessionId: at.session[:], Attempt: at.attempt}
	tell := func() { ctl.send(&pb.ClientMessage{Body: &pb.ClientMessage_Prepared{Prepared: answer}}) }
	ctx, cancel := context.WithTimeout(ctl.qc.Context(), preparedKeep)
	defer cancel()
	var out *outlet
	pc, err := c.openFurther()
	if err == nil {
		out, err = c.newOutlet(pc)
	}
	if err != nil {
		c.prepared.cancel(at)
		tell()
		return
	}
	sockets := ctl.stunSockets()
	if answer.Main = out.witnessedPB(ctx, sockets[0]); answer.Main != nil && alternate {
		answer.Alternate = out.witnessedPB(ctx, sockets[1])
	}
	r := c.prepared.put(at, out) // before the order can come
	tell()
	select {
	case <-r.taken:
		return
	case <-ctx.Done():
	}
	if o := c.prepared.take(at); o != nil {
		o.close()
	}
}

func (o *outlet) witnessedPB(ctx context.Context, server netip.AddrPort) *pb.Witnessed {
	if !server.IsValid() {
		return nil
	}
	w := o.c.witnessed(ctx, o.transport, server)
	if !w.address.IsValid() {
		return nil
	}
	return &pb.Witnessed{Address: protocol.AddrToPB(w.address), Witness: w.word}
}
