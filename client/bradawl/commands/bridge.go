package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/bradawl/bradawl/client"
)

// codeBrokenOff closes a connection whose bridge has failed, so that the other
// side does not take the end for a good one.
const codeBrokenOff = 1

// bridgeLinger is how long, beside four round trips, a bridge that is done stays
// for the other side to hear so: a bye that was lost is sent again meanwhile.
const bridgeLinger = 50 * time.Millisecond

// bridge copies in to the peer and what the peer sends to out, until both
// directions have ended. Each ends by itself, as with a TCP connection that is
// shut down one way. Each side sends on a unidirectional stream of its own, so
// that either may speak first.
//
// Closing a QUIC connection drops what is not yet acknowledged. So each side
// says bye, by a second unidirectional stream that ends at once, when it has
// read everything, and goes when it has heard the other's. Without the other's
// bye, or its normal close, which it only does when it has heard ours, the
// bridge fails: what was sent may not have arrived. Nothing but the end of the
// connection bounds the wait; the other side may be slow to read.
func bridge(ctx context.Context, conn *client.Conn, in io.Reader, out io.Writer) error {
	err := carry(ctx, conn, in, out)
	if err != nil {
		_ = conn.CloseWithError(codeBrokenOff, "broken off")
		return err
	}
	wait := time.NewTimer(bridgeLinger + 4*conn.RTT())
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-conn.Context().Done():
	case <-ctx.Done():
	}
	return nil
}

// carry copies both ways and returns nil when each side knows that the other has read everything.
func carry(ctx context.Context, conn *client.Conn, in io.Reader, out io.Writer) error {
	s, err := conn.OpenUniStream(ctx)
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() { // ends with in; a read of a terminal cannot be interrupted
		_, err := io.Copy(s, in)
		if err == nil {
			err = s.Close()
		}
		sent <- err
	}()
	received := make(chan error, 1)
	bye := make(chan struct{})
	go func() {
		r, err := conn.AcceptUniStream(conn.Context())
		if err == nil {
			_, err = io.Copy(out, r)
		}
		received <- err
		if _, err := conn.AcceptUniStream(conn.Context()); err == nil {
			close(bye)
		}
	}()
	for sent != nil || received != nil || bye != nil {
		select {
		case err := <-sent:
			if err != nil {
				return ended(conn, err)
			}
			sent = nil
		case err := <-received:
			if err == nil {
				err = sayBye(conn)
			}
			if err != nil {
				return ended(conn, err)
			}
			received = nil
		case <-bye:
			bye = nil
		case <-conn.Context().Done():
			if sent == nil && received == nil && closedWell(conn) {
				return nil
			}
			return brokenOff(conn)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// closedWell tells whether the other side has ended the connection normally.
func closedWell(conn *client.Conn) bool {
	app, ok := errors.AsType[*quic.ApplicationError](context.Cause(conn.Context()))
	return ok && app.Remote && app.ErrorCode == client.CodeClosed
}

// sayBye tells the other side that everything it sent was read.
func sayBye(conn *client.Conn) error {
	s, err := conn.QUIC().OpenUniStream()
	if err == nil {
		err = s.Close()
	}
	return err
}

// ended explains why a direction failed.
func ended(conn *client.Conn, err error) error {
	if conn.Context().Err() != nil || endsConnection(err) {
		return brokenOff(conn)
	}
	if _, ok := errors.AsType[*client.Error](err); ok {
		return err
	}
	return fmt.Errorf("connection to %s: %w", conn.Peer().Name, err)
}

// endsConnection tells whether a stream failed because its connection ends.
func endsConnection(err error) bool {
	var app *quic.ApplicationError
	var idle *quic.IdleTimeoutError
	var reset *quic.StatelessResetError
	var transport *quic.TransportError
	return errors.As(err, &app) || errors.As(err, &idle) || errors.As(err, &reset) || errors.As(err, &transport)
}

// brokenOff explains why a connection ended before both sides were done.
func brokenOff(conn *client.Conn) error {
	<-conn.Context().Done() // its streams may have heard first
	return fmt.Errorf("broken off, some of the data may be lost: %w", context.Cause(conn.Context()))
}
