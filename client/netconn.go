package client

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// DialStream opens a bidirectional stream and returns it as a [net.Conn]. The
// other side's [Conn.Listener] accepts it once something was written.
//
// Its Close ends both directions: what was written still arrives, what comes in
// is refused. It has a CloseWrite method that ends only the writing side, as
// that of *net.TCPConn.
func (c *Conn) DialStream(ctx context.Context) (net.Conn, error) {
	s, err := c.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	return &streamConn{Stream: s, conn: c}, nil
}

// Listener returns a [net.Listener] that accepts the bidirectional streams that
// the peer opens. Closing it closes the listener alone, not the connection. Do
// not use it beside AcceptStream.
func (c *Conn) Listener() net.Listener {
	ctx, cancel := context.WithCancel(c.ctx)
	return &streamListener{conn: c, ctx: ctx, cancel: cancel}
}

type streamListener struct {
	conn   *Conn
	ctx    context.Context
	cancel context.CancelFunc
}

func (l *streamListener) Accept() (net.Conn, error) {
	s, err := l.conn.qc.AcceptStream(l.ctx)
	if err == nil {
		return &streamConn{Stream: s, conn: l.conn}, nil
	}
	if l.ctx.Err() != nil && l.conn.qc.Context().Err() == nil {
		return nil, &net.OpError{Op: "accept", Net: "bradawl", Addr: l.Addr(), Err: net.ErrClosed}
	}
	<-l.conn.ctx.Done() // follows at once
	return nil, &net.OpError{Op: "accept", Net: "bradawl", Addr: l.Addr(), Err: errors.Join(net.ErrClosed, context.Cause(l.conn.ctx))}
}

func (l *streamListener) Close() error {
	l.cancel()
	return nil
}

func (l *streamListener) Addr() net.Addr { return udpAddr(l.conn.info.Local) }

// streamConn is a stream as a net.Conn.
type streamConn struct {
	*quic.Stream
	conn *Conn
	wmu  sync.Mutex // quic-go wants Write and Close one after the other
}

func (s *streamConn) LocalAddr() net.Addr  { return udpAddr(s.conn.info.Local) }
func (s *streamConn) RemoteAddr() net.Addr { return udpAddr(s.conn.info.Remote) }

// Write implements [net.Conn].
func (s *streamConn) Write(b []byte) (int, error) {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	return s.Stream.Write(b)
}

// CloseWrite ends the writing side; the other side reads io.EOF.
func (s *streamConn) CloseWrite() error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	return s.Stream.Close()
}

// Close ends both sides; calls that are blocked return.
func (s *streamConn) Close() error {
	s.CancelRead(0)
	_ = s.SetWriteDeadline(time.Now())
	return s.CloseWrite()
}
