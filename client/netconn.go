package client

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// network is the name that errors of net.Conns and addresses carry.
const network = "bradawl"

// copyBuffer is the size of one Write of ReadFrom; docs/benchmarks.md says what it brings.
const copyBuffer = 128 << 10

// DialStream opens a bidirectional stream and returns it as a [net.Conn]. The
// other side's [Conn.Listener] accepts it once something was written: who
// opens a stream speaks first.
//
// The stream behaves as a *net.TCPConn does. Deadlines of the past, present and
// future work at any time, and may be moved; an operation that one ends fails
// with [os.ErrDeadlineExceeded] and can be tried again. Close ends both directions: what was
// written still arrives, what comes in is refused. A CloseWrite method ends the writing
// side alone, and CloseRead the reading side. Errors are of type [*net.OpError]: they wrap [net.ErrClosed]
// after Close here, a *quic.StreamError where the peer has refused or aborted the
// stream, and the connection's [*Error] where that has ended. LocalAddr and
// RemoteAddr are the UDP addresses of the connection.
//
// Each Write waits until its bytes are in packets, so large ones are much faster than
// small ones: use 32 KiB or more, 128 KiB is best. Of what buffers by itself, set the buffer's size
// (http.Transport.WriteBufferSize, grpc.WithWriteBufferSize).
func (c *Conn) DialStream(ctx context.Context) (net.Conn, error) {
	s, err := c.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	return &streamConn{s: s, conn: c}, nil
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
		return &streamConn{s: s, conn: l.conn}, nil
	}
	if l.ctx.Err() != nil && l.conn.qc.Context().Err() == nil {
		return nil, &net.OpError{Op: "accept", Net: network, Addr: l.Addr(), Err: net.ErrClosed}
	}
	<-l.conn.ctx.Done() // follows at once
	return nil, &net.OpError{Op: "accept", Net: network, Addr: l.Addr(), Err: errors.Join(net.ErrClosed, context.Cause(l.conn.ctx))}
}

func (l *streamListener) Close() error {
	l.cancel()
	return nil
}

func (l *streamListener) Addr() net.Addr { return udpAddr(l.conn.info.Local) }

// streamConn is a stream as a net.Conn.
type streamConn struct {
	s      *quic.Stream
	conn   *Conn
	closed atomic.Bool
	wmu    sync.Mutex // quic-go wants Write and Close one after the other
	rmu    sync.Mutex // and one Read at a time
}

func (s *streamConn) LocalAddr() net.Addr  { return udpAddr(s.conn.info.Local) }
func (s *streamConn) RemoteAddr() net.Addr { return udpAddr(s.conn.info.Remote) }

// Read implements [net.Conn].
func (s *streamConn) Read(b []byte) (int, error) {
	s.rmu.Lock()
	defer s.rmu.Unlock()
	n, err := s.s.Read(b)
	return n, s.opError("read", err)
}

// Write implements [net.Conn].
func (s *streamConn) Write(b []byte) (int, error) {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	n, err := s.s.Write(b)
	return n, s.opError("write", err)
}

// ReadFrom implements [io.ReaderFrom], so that io.Copy writes in large pieces.
func (s *streamConn) ReadFrom(r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{r}, make([]byte, copyBuffer))
}

// CloseWrite ends the writing side; the other side reads io.EOF.
func (s *streamConn) CloseWrite() error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	return s.opError("close", s.s.Close())
}

// CloseRead ends the reading side; the other side's writes fail.
func (s *streamConn) CloseRead() error {
	s.s.CancelRead(0)
	return nil
}

// Close ends both sides; calls that are blocked return.
func (s *streamConn) Close() error {
	if s.closed.Swap(true) {
		return s.opError("close", net.ErrClosed)
	}
	s.s.CancelRead(0)
	_ = s.s.SetWriteDeadline(time.Now()) // a blocked Write lets go of the lock
	s.wmu.Lock()
	defer s.wmu.Unlock()
	_ = s.s.Close() // fails only where there is nothing left to close
	return nil
}

func (s *streamConn) SetDeadline(t time.Time) error {
	return s.setDeadline(s.s.SetDeadline, t)
}

func (s *streamConn) SetReadDeadline(t time.Time) error {
	return s.setDeadline(s.s.SetReadDeadline, t)
}

func (s *streamConn) SetWriteDeadline(t time.Time) error {
	return s.setDeadline(s.s.SetWriteDeadline, t)
}

func (s *streamConn) setDeadline(set func(time.Time) error, t time.Time) error {
	if s.closed.Load() {
		return s.opError("set", net.ErrClosed)
	}
	return s.opError("set", set(t))
}

// opError says what failed, where and why. io.EOF stays as it is.
func (s *streamConn) opError(op string, err error) error {
	switch {
	case err == nil, err == io.EOF:
		return err
	case s.closed.Load():
		err = net.ErrClosed
	case s.conn.qc.Context().Err() != nil, endsConnection(err):
		<-s.conn.ctx.Done() // follows at once
		err = context.Cause(s.conn.ctx)
	}
	return &net.OpError{Op: op, Net: network, Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: err}
}
