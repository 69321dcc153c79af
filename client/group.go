package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

// Link is the outcome of one pair of a collective. A pair whose link is lost gets
// another one: its Conn ends with an error that wraps [ErrLinkLost], and in the next Link of
// the peer [ConnInfo].Replaces names the session of the old.
type Link struct {
	// Peer is the other side.
	Peer Peer
	// Conn is the connection, proven as far as this side can tell; nil if Err is set.
	Conn *Conn
	// Err is the [*Error] for which the link finally failed. A later incarnation
	// of the peer gets a Link of its own. [Group.Retry] asks again.
	Err error
}

// Side is one of the two sides of a bipartite collective.
type Side struct {
	// Role is the role of the peers of this side.
	Role string
	// Size is how many of them this member waits for before the first orders go
	// out. A member that comes back late names 1: it need not wait for those who
	// have done their part and left.
	Size int
}

// Group is the membership in a collective: a named set of peers that want links
// to one another. Links come up as peers join, also after the collective has
// its size, and again for a peer that comes back under its name with a new
// identity. Its methods may be called from several goroutines at once.
type Group struct {
	c      *Client
	join   *pb.Join // without the links that exist; immutable
	number uint64
	queue  *queue[Link]
	pairs  pairs
}

// Mesh joins a collective in which every peer wants a link to every other. The
// first links are made when as many peers have joined as one of the members
// waits for, here size. It returns at once; the links come from [Group.Next].
func (c *Client) Mesh(ctx context.Context, name string, size int) (*Group, error) {
	if size < 1 {
		return nil, &Error{Op: "join " + name, Err: fmt.Errorf("a mesh of %d peers", size)}
	}
	return c.join(ctx, &pb.Join{Collective: name, Kind: pb.Join_MESH, SizeA: uint32(size)})
}

// Bipartite joins a collective in which every peer of side a wants a link to
// every peer of side b. The caller's own Role, which must be one of the two,
// decides its side. The first links are made when both sides have the sizes that
// one of the members waits for. It returns at once; the links come from
// [Group.Next].
func (c *Client) Bipartite(ctx context.Context, name string, a, b Side) (*Group, error) {
	op := "join " + name
	switch {
	case a.Role == "" || b.Role == "" || a.Role == b.Role:
		return nil, &Error{Op: op, Err: fmt.Errorf("the sides need two different roles, not %q and %q", a.Role, b.Role)}
	case a.Size < 1 || b.Size < 1:
		return nil, &Error{Op: op, Err: fmt.Errorf("sides of %d and %d peers", a.Size, b.Size)}
	case c.cfg.Role != a.Role && c.cfg.Role != b.Role:
		return nil, &Error{Op: op, Err: fmt.Errorf("this peer's role is %q, neither %q nor %q", c.cfg.Role, a.Role, b.Role)}
	}
	return c.join(ctx, &pb.Join{Collective: name, Kind: pb.Join_BIPARTITE,
		RoleA: a.Role, RoleB: b.Role, SizeA: uint32(a.Size), SizeB: uint32(b.Size)})
}

var errJoined = errors.New("already a member of a collective of that name")

func (c *Client) join(ctx context.Context, m *pb.Join) (*Group, error) {
	op := "join " + m.Collective
	if ctx.Err() != nil {
		return nil, canceled(ctx, op, "")
	}
	if m.Collective == "" || len(m.Collective) > protocol.MaxCollectiveLen {
		return nil, &Error{Op: op, Err: fmt.Errorf("a collective's name has 1 to %d bytes", protocol.MaxCollectiveLen)}
	}
	g := &Group{c: c, join: m, queue: newQueue[Link](0)}
	c.mu.Lock()
	_, twice := c.groups[m.Collective]
	if !twice {
		c.groups[m.Collective] = g
	}
	c.mu.Unlock()
	if twice {
		return nil, &Error{Op: op, Err: errJoined}
	}
	if err := c.ask(func(id uint64) request { g.number = id; return g }); err != nil {
		g.leave()
		return nil, c.askError(err, op, "")
	}
	return g, nil
}

func (g *Group) id() uint64 { return g.number }

// message is the Join, with the links that exist already, so that they are not made anew after a restart of the server.
func (g *Group) message() *pb.ClientMessage {
	m := &pb.Join{RequestId: g.number, Collective: g.join.Collective, Kind: g.join.Kind,
		RoleA: g.join.RoleA, RoleB: g.join.RoleB, SizeA: g.join.SizeA, SizeB: g.join.SizeB}
	g.c.mu.Lock()
	defer g.c.mu.Unlock()
	for conn := range g.c.conns {
		if conn.collective == g.join.Collective && conn.qc.Context().Err() == nil {
			link := conn.peer.ref()
			link.SessionId = conn.session.id[:]
			m.Connected = append(m.Connected, link)
		}
	}
	return &pb.ClientMessage{Body: &pb.ClientMessage_Join{Join: m}}
}

func (g *Group) refuse(err *Error) {
	err.Op = "join " + g.join.Collective
	g.leave()
	g.queue.close(err, false)
}

// Name returns the collective's name.
func (g *Group) Name() string { return g.join.Collective }

// Next returns the next link that has come up or finally failed. It fails with
// an [*Error] when ctx ends, when the rendezvous refuses the collective and when
// the group or the client is closed.
func (g *Group) Next(ctx context.Context) (Link, error) {
	l, err := g.queue.pop(ctx)
	if err == nil {
		return l, nil
	}
	if ctx.Err() != nil {
		return Link{}, canceled(ctx, "next link of "+g.Name(), "")
	}
	return Link{}, g.c.askError(err, "next link of "+g.Name(), "")
}

func (g *Group) leave() {
	g.c.mu.Lock()
	defer g.c.mu.Unlock()
	if g.c.groups[g.join.Collective] == g {
		delete(g.c.groups, g.join.Collective)
	}
}

// Close leaves the collective: no more links are made. Connections that Next
// has returned stay open; those it has not are closed.
func (g *Group) Close() error {
	if g.c.withdraw(g) {
		g.c.send(&pb.ClientMessage{Body: &pb.ClientMessage_Leave{Leave: &pb.Leave{RequestId: g.number}}})
	}
	g.leave()
	for _, l := range g.queue.close(closedError("next link of "+g.Name(), ""), true) {
		if l.Conn != nil {
			_ = l.Conn.Close()
		}
	}
	return nil
}
