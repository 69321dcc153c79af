package exchange

import (
	"context"
	"fmt"
	"time"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/protocol"
)

// Over makes links through a signed-in client. The client stays the caller's,
// who closes it after the producers and consumers that use it. A client takes
// part in an exchange once at a time. Over(nil) is nil, for mode S3.
func Over(c *client.Client) Network {
	if c == nil {
		return nil
	}
	return &clientNetwork{c}
}

type clientNetwork struct{ c *client.Client }

func (n *clientNetwork) join(ctx context.Context, s Shuffle) (collective, error) {
	g, err := n.c.Bipartite(ctx, s.Collective,
		client.Side{Role: s.ProducerRole, Size: s.Producers},
		client.Side{Role: s.ConsumerRole, Size: s.Consumers})
	if err != nil {
		return nil, err
	}
	return &clientCollective{n.c, g}, nil
}

type clientCollective struct {
	c *client.Client
	g *client.Group
}

func (c *clientCollective) next(ctx context.Context) (linkEvent, error) {
	l, err := c.g.Next(ctx)
	switch {
	case err != nil:
		return linkEvent{}, err
	case l.Err != nil:
		return linkEvent{peer: l.Peer.Name, err: peerError(l.Err)}, nil
	}
	return linkEvent{peer: l.Peer.Name, link: &clientLink{l.Conn}}, nil
}

func (c *clientCollective) accept(ctx context.Context) (link, error) {
	conn, err := c.c.Accept(ctx)
	if err != nil {
		return nil, err
	}
	return &clientLink{conn}, nil
}

func (c *clientCollective) connect(ctx context.Context, peer string) (link, error) {
	conn, err := c.c.Connect(ctx, peer)
	if err != nil {
		return nil, peerError(err)
	}
	return &clientLink{conn}, nil
}

func (c *clientCollective) leave() error { return c.g.Close() }

// peerError marks the absence of a peer as such.
func peerError(err error) error {
	if client.ReasonOf(err) == protocol.ReasonNoPeer {
		return fmt.Errorf("%w: %w", errNoPeer, err)
	}
	return err
}

type clientLink struct{ conn *client.Conn }

func (l *clientLink) peer() string                   { return l.conn.Peer().Name }
func (l *clientLink) done() <-chan struct{}          { return l.conn.Context().Done() }
func (l *clientLink) cause() error                   { return context.Cause(l.conn.Context()) }
func (l *clientLink) path() string                   { return l.conn.Info().Path }
func (l *clientLink) connectDuration() time.Duration { return l.conn.Info().ConnectDuration }

func (l *clientLink) open(ctx context.Context) (stream, error) {
	s, err := l.conn.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (l *clientLink) accept(ctx context.Context) (stream, error) {
	s, err := l.conn.AcceptStream(ctx)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// close tells the peer; that it fails on a link that is lost does not matter.
func (l *clientLink) close(code uint64, why string) { _ = l.conn.CloseWithError(code, why) }
