package rendezvous

import (
	"bufio"
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/time/rate"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

// closeCode is the application error code (RFC 9000 section 20.2) with which the server closes a control connection.
type closeCode quic.ApplicationErrorCode

const (
	closeBye      closeCode = 0 // the client has ended its stream
	closeProtocol closeCode = 1 // it broke the protocol
	closeRefused  closeCode = 2 // its sign-in was refused
	closeReplaced closeCode = 3 // the same key signed in again
	closeDraining closeCode = 4 // the server is going away
	closeSlow     closeCode = 5 // it does not read
)

// shutdown is why a control connection is closed, as a context's cause.
type shutdown struct {
	code   closeCode
	detail string
}

// Error makes a shutdown a context's cause.
func (s *shutdown) Error() string { return s.detail }

const (
	// writeTimeout is how long a peer may take to make room for one message.
	writeTimeout = 10 * time.Second
	// clockRate and clockBurst bound the clock datagrams of one peer, per second.
	clockRate, clockBurst = 50, 50
	// rttSample is how often a peer's round trip enters the histogram.
	rttSample = 5 * time.Second
)

// control is a signed-in peer's connection.
type control struct {
	conn    *quic.Conn
	stream  *quic.Stream
	out     *outbox
	clock   clock
	metrics *metrics
	end     context.CancelCauseFunc // closes the connection; the cause is a *shutdown
	over    <-chan struct{}         // closed by end, before the peer learns of it
}

func (c *control) enqueue(m *pb.ServerMessage) {
	if !c.out.put(m) {
		c.shut(closeSlow, "the peer does not read its messages")
	}
}

func (c *control) roundTrip() time.Duration { return c.conn.ConnectionStats().SmoothedRTT }

func (c *control) deviation() time.Duration { return c.conn.ConnectionStats().MeanDeviation }

func (c *control) ended() bool {
	select {
	case <-c.over:
		return true
	case <-c.conn.Context().Done():
		return true
	default:
		return false
	}
}

func (c *control) shut(code closeCode, detail string) {
	switch code {
	case closeSlow:
		c.metrics.drops.WithLabelValues(dropSlow).Inc()
	case closeProtocol:
		c.metrics.drops.WithLabelValues(dropProtocol).Inc()
	case closeReplaced:
		c.metrics.drops.WithLabelValues(dropReplaced).Inc()
	}
	c.end(&shutdown{code, detail})
}

// closeOn closes the connection when ctx ends, with the code that its cause names. It returns a function that stops that.
func closeOn(ctx context.Context, conn *quic.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		why := &shutdown{closeDraining, "the server is going away"}
		errors.As(context.Cause(ctx), &why)
		_ = conn.CloseWithError(quic.ApplicationErrorCode(why.code), why.detail)
	})
}

// run serves a signed-in peer until its connection ends.
func (c *control) run(ctx context.Context, in *bufio.Reader, g *group, m *member, limits Limits) {
	var others sync.WaitGroup
	others.Go(func() { c.write(ctx) })
	others.Go(func() { c.tellTime(ctx, g, m) })
	c.read(ctx, in, g, m, rate.NewLimiter(rate.Limit(limits.MessagesPerSecond), limits.MessagesPerSecond))
	c.end(&shutdown{closeBye, "bye"})
	<-c.conn.Context().Done()
	others.Wait()
}

// read takes the peer's messages to its group.
func (c *control) read(ctx context.Context, in *bufio.Reader, g *group, m *member, pacer *rate.Limiter) {
	observed := addrPortOf(c.conn.RemoteAddr())
	for {
		var msg pb.ClientMessage
		if err := protocol.ReadMessage(in, &msg, protocol.MaxClientMessage); err != nil {
			if c.conn.Context().Err() == nil && !isStreamEnd(err) {
				c.shut(closeProtocol, "unreadable message")
			}
			return
		}
		if pacer.Wait(ctx) != nil {
			return
		}
		c.noteMove(g, m, &observed) // before a session is made of an address that is no more
		g.handle(m, &msg, time.Now())
	}
}

// write sends what is put into the outbox.
func (c *control) write(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.conn.Context().Done():
			return
		case <-c.out.ready:
		}
		for _, m := range c.out.take() {
			if c.stream.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil {
				return
			}
			if err := protocol.WriteMessage(c.stream, m); err != nil {
				if c.conn.Context().Err() == nil && ctx.Err() == nil {
					c.shut(closeSlow, "the peer does not read its messages")
				}
				return
			}
		}
	}
}

// noteMove tells the group when the peer has another address than the last one noted. A client whose NAT has mapped it anew
// migrates (RFC 9000 section 9); QUIC has validated the new address.
func (c *control) noteMove(g *group, m *member, last *netip.AddrPort) {
	if at := addrPortOf(c.conn.RemoteAddr()); at != *last {
		*last = at
		g.moved(m, at, time.Now())
	}
}

// tellTime answers clock datagrams.
func (c *control) tellTime(ctx context.Context, g *group, m *member) {
	observed := addrPortOf(c.conn.RemoteAddr())
	limit := rate.NewLimiter(clockRate, clockBurst)
	var sampled time.Time
	reply := make([]byte, 0, 64)
	for {
		d, err := c.conn.ReceiveDatagram(ctx)
		if err != nil {
			return
		}
		received := time.Now()
		c.noteMove(g, m, &observed)
		req, err := protocol.ParseClockRequest(d)
		if err != nil {
			c.metrics.clockRequests.WithLabelValues("bad").Inc()
			continue
		}
		if !limit.AllowN(received, 1) {
			c.metrics.clockRequests.WithLabelValues("limited").Inc()
			continue
		}
		answer := protocol.ClockReply{ID: req.ID, T1: req.T1, T2: c.clock.at(received), T3: c.clock.now()}
		_ = c.conn.SendDatagram(answer.Append(reply)) // a lost one is asked for again
		c.metrics.clockRequests.WithLabelValues("answered").Inc()
		if received.Sub(sampled) > rttSample {
			sampled = received
			c.metrics.controlRTT.Observe(c.roundTrip().Seconds())
		}
	}
}
