package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/bradawl/bradawl/client"
)

// byeWait is how long a bridge waits for the other side to confirm that it has read everything.
const byeWait = time.Second

// bridge copies in to the peer and what the peer sends to out, until both
// directions have ended. Each ends by itself, as with a TCP connection that is
// shut down one way. Each side sends on a unidirectional stream of its own, so
// that either may speak first.
//
// Closing a QUIC connection drops what is not yet acknowledged. So each side
// says bye, by a second unidirectional stream that ends at once, when it has
// read everything, and goes when it has heard the other's.
func bridge(ctx context.Context, conn *client.Conn, in io.Reader, out io.Writer) error {
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
	var sending, receiving = sent, received
	for sending != nil || receiving != nil {
		select {
		case err := <-sending:
			if err != nil {
				return ended(conn, err)
			}
			sending = nil
		case err := <-receiving:
			if err != nil {
				return ended(conn, err)
			}
			receiving = nil
			sayBye(conn)
		case <-conn.Context().Done():
			return ended(conn, context.Cause(conn.Context()))
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	wait := time.NewTimer(byeWait)
	defer wait.Stop()
	select {
	case <-bye:
	case <-wait.C:
	case <-conn.Context().Done():
	case <-ctx.Done():
	}
	return nil
}

// sayBye tells the other side that everything it sent was read.
func sayBye(conn *client.Conn) {
	if s, err := conn.QUIC().OpenUniStream(); err == nil {
		_ = s.Close()
	}
}

// ended explains why a connection ended before both directions were complete.
func ended(conn *client.Conn, err error) error {
	if conn.Context().Err() != nil {
		err = context.Cause(conn.Context())
	}
	if _, ok := errors.AsType[*client.Error](err); ok {
		return err
	}
	return fmt.Errorf("connection to %s: %w", conn.Peer().Name, err)
}
