package rendezvous

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// acceptPause is how long the TCP listener rests when it cannot accept, for example for want of file descriptors.
const acceptPause = 50 * time.Millisecond

// serveTCP answers STUN over TCP until ctx ends, then waits for the connections. It closes the listener.
func (s *stunServer) serveTCP(ctx context.Context, l net.Listener, maxConns int) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var conns sync.WaitGroup
	defer conns.Wait()
	room := make(chan struct{}, maxConns)
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case err != nil:
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
			continue
		}
		select {
		case room <- struct{}{}:
		default:
			s.metrics.drops.WithLabelValues(dropTCPConns).Inc()
			_ = conn.Close()
			continue
		}
		conns.Go(func() {
			defer func() { <-room }()
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			defer func() { _ = conn.Close() }()
			s.stream(conn)
		})
	}
}
