package client

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/bradawl/bradawl/protocol"
)

// maxFurtherSockets bounds the sockets beside the client's own, all sessions together: a process may have 1,024 files.
const maxFurtherSockets = 512

// outletLinger is how long a socket outlives its connection, so that a lost farewell can be sent again.
const outletLinger = 300 * time.Millisecond

var errTooManySockets = errors.New("too many further sockets are open")

// socketBudget counts further sockets. It is safe for concurrent use.
type socketBudget struct{ used atomic.Int64 }

func (b *socketBudget) take() bool {
	if b.used.Add(1) > maxFurtherSockets {
		b.used.Add(-1)
		return false
	}
	return true
}

func (b *socketBudget) give() { b.used.Add(-1) }

// openFurther opens a socket within the budget, to be closed by closeFurther.
func (c *Client) openFurther() (net.PacketConn, error) {
	if !c.further.take() {
		return nil, errTooManySockets
	}
	pc, err := c.openAnother()
	if err != nil {
		c.further.give()
	}
	return pc, err
}

// closeFurther closes a socket of openFurther.
func (c *Client) closeFurther(pc net.PacketConn) {
	_ = pc.Close()
	c.further.give()
}

// outlet is a further socket with a Transport of its own, for one session.
type outlet struct {
	c         *Client
	pc        net.PacketConn
	transport *quic.Transport
	listener  *quic.EarlyListener
	cancel    context.CancelFunc
	loops     sync.WaitGroup
	once      sync.Once
}

// newOutlet takes over a socket of openFurther.
func (c *Client) newOutlet(pc net.PacketConn) (*outlet, error) {
	o := &outlet{c: c, pc: pc}
	var err error
	if o.transport, o.listener, err = c.transportOn(pc); err != nil {
		c.closeFurther(pc)
		return nil, err
	}
	ctx, cancel := context.WithCancel(c.ctx)
	o.cancel = cancel
	o.loops.Go(func() { c.readPackets(ctx, o.transport) })
	o.loops.Go(func() { c.acceptPeers(ctx, o.listener) })
	return o, nil
}

// close ends the socket and everything on it, and waits for its goroutines.
func (o *outlet) close() {
	o.once.Do(func() {
		o.cancel()
		_ = o.listener.Close()
		_ = o.transport.Close()
		_ = o.pc.Close()
		o.loops.Wait()
		o.c.further.give()
	})
}

// closeLater closes it when a farewell has had its time.
func (o *outlet) closeLater() {
	wait := time.NewTimer(outletLinger)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-o.c.ctx.Done():
	}
	o.close()
}

// witness is an address with the server's word for it.
type witness struct {
	address netip.AddrPort
	word    []byte
}

// witnessProbe takes the answers to requests for a witness.
type witnessProbe struct {
	from   netip.AddrPort
	answer chan witness // holds one
}

func (p *witnessProbe) response(_ time.Time, from netip.AddrPort, r protocol.Response) {
	if from != p.from || r.Witness == nil {
		return
	}
	select {
	case p.answer <- witness{r.Mapped, r.Witness}:
	default:
	}
}

// witnessRetries are the waits for an answer. Who waits for the outcome has little patience.
func witnessRetries() []time.Duration {
	return []time.Duration{100 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond}
}

// witnessed asks a STUN socket of the server for its word for the transport's mapped address; invalid: no answer came.
func (c *Client) witnessed(ctx context.Context, by *quic.Transport, server netip.AddrPort) witness {
	p := &witnessProbe{from: server, answer: make(chan witness, 1)}
	var tids [][12]byte
	defer func() { c.sessions.forget(tids...) }()
	for _, wait := range witnessRetries() {
		tid := newTransaction()
		b, err := protocol.AppendProbe(nil, protocol.Probe{TransactionID: tid, Witness: true})
		if err != nil {
			return witness{}
		}
		tids = append(tids, tid)
		c.sessions.sent(tid, p)
		_, _ = by.WriteTo(b, udpAddr(server))
		t := time.NewTimer(wait)
		select {
		case w := <-p.answer:
			t.Stop()
			return w
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return witness{}
		}
	}
	return witness{}
}
