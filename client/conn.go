package client

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

// Errors that the cause of a Conn's end wraps, beside quic-go's own.
var (
	// ErrLinkLost: nothing was heard from the peer for two and a half keep-alive intervals, or one of the two sides has
	// found the path gone otherwise and makes a new connection.
	ErrLinkLost = errors.New("link lost")
	// ErrPeerClosed: the peer closed the connection; errors.As finds its code in a *quic.ApplicationError.
	ErrPeerClosed = errors.New("peer closed the connection")
)

// Application error codes of CONNECTION_CLOSE that the package itself uses; a
// program's own codes should be smaller.
const (
	// CodeClosed is a normal end.
	CodeClosed = 0
	// CodeSuperseded closes a connection because another one of the same session is used.
	CodeSuperseded = 0x62720001
	// CodeProofFailed closes a connection whose proof failed.
	CodeProofFailed = 0x62720002
	// CodeUnwanted closes a connection that nobody accepts.
	CodeUnwanted = 0x62720003
	// CodeLinkLost closes a connection that another one replaces because one side has lost it.
	CodeLinkLost = 0x62720004
)

// Conn is a direct, encrypted connection to a peer, authenticated both ways. Its
// methods may be called from several goroutines at once.
type Conn struct {
	c          *Client
	qc         *quic.Conn
	peer       Peer
	collective string
	session    *session

	ctx    context.Context
	cancel context.CancelCauseFunc
	proof  *proof
	out    *outlet // the socket that is the connection's alone; nil: the client's

	mu       sync.Mutex
	info     ConnInfo
	override error // the cause of the end, where quic-go's would mislead
}

// ConnInfo says how a connection came about. Durations are on the local clock.
type ConnInfo struct {
	// SessionID is the session that made it, the same on both sides.
	SessionID protocol.SessionID
	// Replaces is the session of the lost connection to the same peer that this one replaces; zero if there is none.
	Replaces protocol.SessionID
	// Dialler is set on the side that is QUIC's client.
	Dialler bool
	// Path is the type of the peer's address, in the words of RFC 8445:
	// "host", "server_reflexive", "peer_reflexive" or "relayed".
	Path string
	// Strategy is what this side did to get through: "plain", "fresh_socket",
	// "many_sockets", "guessed_ports" or "predicted_ports".
	Strategy string
	// Local and Remote are the addresses in use, as seen from here.
	Local, Remote netip.AddrPort
	// Attempts is how many attempts the session took.
	Attempts uint32
	// Asked is when Connect was called, or else when the first order came in.
	Asked time.Time
	// ConnectDuration is the time from Asked until the connection was ready.
	ConnectDuration time.Duration
	// PunchDuration is the time from the last order until then.
	PunchDuration time.Duration
	// HandshakeDuration is the time of the QUIC handshake that succeeded; on
	// the listening side it begins with the first packet that arrived.
	HandshakeDuration time.Duration
	// Skew estimates how much later the peer sent its first INIT than we ours,
	// from when it arrived and half a round trip; zero unless SkewKnown, which it
	// is not when that INIT was lost. It is final with the proof.
	Skew      time.Duration
	SkewKnown bool
	// InitsOut and InitsIn count INITs sent and received in the last attempt.
	InitsOut, InitsIn uint32
	// PeerMapping is how the rendezvous says the peer's NAT maps.
	PeerMapping Mapping
}

// Peer returns the other side.
func (c *Conn) Peer() Peer { return c.peer }

// Collective returns the name of the Mesh or Bipartite that made the connection; empty for Connect.
func (c *Conn) Collective() string { return c.collective }

// Info says how the connection came about.
func (c *Conn) Info() ConnInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.info
}

// noteSkew takes over what is known of the skew; the peer's INIT may come in after the handshake. The attempt's lock is held.
func (c *Conn) noteSkew(p *punch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.info.Skew, c.info.SkewKnown = p.skew(c.qc.ConnectionStats().MinRTT)
}

// RTT returns the smoothed round-trip time (RFC 9002) of the path.
func (c *Conn) RTT() time.Duration { return c.qc.ConnectionStats().SmoothedRTT }

// MinRTT returns the smallest round-trip time measured on the path.
func (c *Conn) MinRTT() time.Duration { return c.qc.ConnectionStats().MinRTT }

// QUIC returns the connection below, for what this type does not offer. Its
// first unidirectional stream of each direction is the proof's.
func (c *Conn) QUIC() *quic.Conn { return c.qc }

// Context ends with the connection; context.Cause says why, as an [*Error].
func (c *Conn) Context() context.Context { return c.ctx }

// Proven waits until the proof that full-size packets pass both ways is done.
// It returns nil then, and the [*Error] that ended the connection if the proof failed.
func (c *Conn) Proven(ctx context.Context) error {
	select {
	case <-c.proof.done:
	default:
		select {
		case <-c.proof.done:
		case <-c.ctx.Done():
			<-c.proof.done // it ends with the connection
		case <-ctx.Done():
			return canceled(ctx, "prove", c.peer.Name)
		}
	}
	if c.proof.err != nil {
		<-c.ctx.Done() // follows at once
		return c.proof.err
	}
	return nil
}

// OpenStream opens a bidirectional stream; it waits while the peer allows no
// more. The peer learns of the stream with its first bytes.
func (c *Conn) OpenStream(ctx context.Context) (*quic.Stream, error) {
	s, err := c.qc.OpenStreamSync(ctx)
	return s, c.opError(ctx, "open stream", err)
}

// AcceptStream waits for a bidirectional stream that the peer opens.
func (c *Conn) AcceptStream(ctx context.Context) (*quic.Stream, error) {
	s, err := c.qc.AcceptStream(ctx)
	return s, c.opError(ctx, "accept stream", err)
}

// OpenUniStream opens a stream on which only this side writes.
func (c *Conn) OpenUniStream(ctx context.Context) (*quic.SendStream, error) {
	s, err := c.qc.OpenUniStreamSync(ctx)
	return s, c.opError(ctx, "open stream", err)
}

// AcceptUniStream waits for a stream on which only the peer writes.
func (c *Conn) AcceptUniStream(ctx context.Context) (*quic.ReceiveStream, error) {
	select {
	case <-c.proof.accepted: // the proof's stream is the first one
	case <-c.ctx.Done():
		return nil, c.opError(ctx, "accept stream", c.ctx.Err())
	case <-ctx.Done():
		return nil, canceled(ctx, "accept stream", c.peer.Name)
	}
	s, err := c.qc.AcceptUniStream(ctx)
	return s, c.opError(ctx, "accept stream", err)
}

// SendDatagram sends b unreliably (RFC 9221), in one packet. It fails with a
// *quic.DatagramTooLargeError if b does not fit; 1,100 bytes always do.
func (c *Conn) SendDatagram(b []byte) error { return c.qc.SendDatagram(b) }

// ReceiveDatagram waits for a datagram.
func (c *Conn) ReceiveDatagram(ctx context.Context) ([]byte, error) {
	b, err := c.qc.ReceiveDatagram(ctx)
	return b, c.opError(ctx, "receive datagram", err)
}

// Close tells the peer and ends the connection. Data not yet acknowledged is lost.
func (c *Conn) Close() error { return c.CloseWithError(CodeClosed, "") }

// CloseWithError ends the connection and tells the peer code, which must be
// smaller than 2^62, and msg.
func (c *Conn) CloseWithError(code uint64, msg string) error {
	if code >= 1<<62 {
		return fmt.Errorf("close connection to %s: code %d is not smaller than 2^62", c.peer.Name, code)
	}
	c.setCause(&Error{Op: "connection to", Peer: c.peer.Name, Reason: protocol.ReasonCanceled, Err: ErrClosed})
	_ = c.qc.CloseWithError(quic.ApplicationErrorCode(code), msg)
	return nil
}

// setCause decides what the end of the connection is put down to; the first one counts.
func (c *Conn) setCause(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.override == nil && c.qc.Context().Err() == nil {
		c.override = err
	}
}

// ended runs when the QUIC connection is over.
func (c *Conn) ended() {
	c.mu.Lock()
	err := c.override
	c.mu.Unlock()
	if err == nil {
		err = c.cause(context.Cause(c.qc.Context()))
	}
	c.cancel(err)
	c.c.connEnded(c, err)
}

// cause gives the end of a QUIC connection a reason.
func (c *Conn) cause(err error) *Error {
	e := &Error{Op: "connection to", Peer: c.peer.Name, Reason: quicReason(err), Err: err}
	switch {
	case isIdle(err):
		e.Err = fmt.Errorf("%w: %w", ErrLinkLost, err)
	case isRemoteCode(err, CodeLinkLost), isRemoteCode(err, CodeSuperseded):
		e.Reason, e.Err = protocol.ReasonNoInbound, fmt.Errorf("%w: %w", ErrLinkLost, err)
	case isRemoteClose(err):
		e.Err = fmt.Errorf("%w: %w", ErrPeerClosed, err)
	}
	return e
}

// opError gives the failure of a stream operation the connection's cause.
func (c *Conn) opError(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && c.qc.Context().Err() == nil && !endsConnection(err) {
		return canceled(ctx, op, c.peer.Name)
	}
	if c.qc.Context().Err() != nil || endsConnection(err) {
		<-c.ctx.Done() // follows at once
		return context.Cause(c.ctx)
	}
	return &Error{Op: op, Peer: c.peer.Name, Err: err}
}

// strategyName is the word of a strategy.
func strategyName(s pb.Strategy) string { return strings.ToLower(s.String()) }
