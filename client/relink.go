package client

import (
	"context"
	"fmt"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

// lose ends the connection because its path is gone. Where packets still reach the peer, it learns so at once.
func (c *Conn) lose(detail string) {
	c.setCause(&Error{Op: "connection to", Peer: c.peer.Name, Reason: protocol.ReasonNoInbound, Detail: detail, Err: ErrLinkLost})
	_ = c.qc.CloseWithError(CodeLinkLost, "")
}

// Reconnect makes a new connection to the peer of one whose path is lost, or is
// thought to be: after a NAT has forgotten its mappings, say. conn ends at once
// on both sides, with an error that wraps [ErrLinkLost]; what was under way on
// its streams is for the caller to resume. The other side gets the new connection from
// Accept, or from its own Reconnect at the same time; on both sides
// [ConnInfo].Replaces names the old one's session.
//
// Unless [WaitForPeer] says otherwise, it waits for a peer that is not signed in
// as long as Config.ServerTimeout: what has cut the link may have cut its way to
// the rendezvous, too. A peer that has come back with another key is a new
// incarnation; compare [Conn.Peer]. A link of a collective comes back by itself.
// The error is an [*Error].
func (c *Client) Reconnect(ctx context.Context, conn *Conn, opts ...ConnectOption) (*Conn, error) {
	if conn.c != c {
		return nil, &Error{Op: "reconnect", Peer: conn.peer.Name, Err: fmt.Errorf("the connection is another client's")}
	}
	if conn.collective != "" {
		return nil, &Error{Op: "reconnect", Peer: conn.peer.Name,
			Err: fmt.Errorf("the collective %q makes its links anew by itself, and Group.Retry asks for those that failed", conn.collective)}
	}
	c.emit(Event{Kind: EventRelinking, Session: conn.session.id, Peer: conn.peer.Name})
	conn.lose("replaced by a new one")
	return c.connect(ctx, conn.peer.Name, append([]ConnectOption{WaitForPeer(c.cfg.ServerTimeout), replacing(conn.session.id)}, opts...))
}

func replacing(id protocol.SessionID) ConnectOption {
	return func(o *connectOptions) { o.replaces = id }
}

// replaced ends the connection that an order replaces: its other side has lost it.
func (c *Client) replaced(o order) {
	if (o.replaces == protocol.SessionID{}) {
		return
	}
	s := c.sessions.get(o.replaces)
	if s == nil || s.peer.Name != o.peer.Name || s.peer.Fingerprint != o.peer.Fingerprint || s.collective != o.collective {
		return
	}
	c.sessions.mu.RLock()
	a := s.current
	c.sessions.mu.RUnlock()
	a.mu.Lock()
	conn := a.conn
	a.mu.Unlock()
	if conn != nil {
		c.wg.Go(func() { conn.lose("the peer has lost it") }) // CloseWithError waits, orders do not
	}
}

// maxLost is how many links one Lost names, so that it stays within protocol.MaxClientMessage.
const maxLost = 256

// sayLost asks the rendezvous for new sessions with peers.
func (g *Group) sayLost(links []*pb.PeerRef) {
	for len(links) > 0 {
		n := min(len(links), maxLost)
		g.c.send(&pb.ClientMessage{Body: &pb.ClientMessage_Lost{Lost: &pb.Lost{RequestId: g.number, Links: links[:n]}}})
		links = links[n:]
	}
}

// ended notes the end of one of the group's connections. A lost link is asked for again; if the client is signed out, rejoined does.
func (g *Group) ended(conn *Conn, err error) {
	if !g.pairs.ended(conn, err) {
		return
	}
	g.c.emit(Event{Kind: EventRelinking, Session: conn.session.id, Peer: conn.peer.Name})
	link := conn.peer.ref()
	link.SessionId = conn.session.id[:]
	g.sayLost([]*pb.PeerRef{link})
}

// rejoined says again which links are lost, after the Join of a new sign-in.
func (g *Group) rejoined() { g.sayLost(g.pairs.refs(LinkLost)) }

// Retry asks for new sessions with all peers to which the link has finally
// failed, and returns how many these are. The outcomes come from [Group.Next].
// It does not wait; while the client is signed out, the next sign-in asks by itself.
func (g *Group) Retry() int {
	failed := g.pairs.refs(LinkFailed)
	g.sayLost(failed)
	return len(failed)
}
