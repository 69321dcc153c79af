package client

import (
	"net/netip"
	"time"

	"github.com/bradawl/bradawl/protocol/pb"
)

// firstGrace is how long a path that has answered leaves the way to the better one that was dialled as the attempt
// fired, before it is dialled too; half of its own round trip comes on top. A second handshake costs both sides as much
// as the first.
const firstGrace = 20 * time.Millisecond

// chooseFirst returns the path to dial as the attempt fires, without knowing yet whether it works; nil: dial what
// answers. Only an address that the rendezvous has observed is worth that: a private one may be a stranger's, and
// answers quickly if it is not. Where an attempt has an address in each family, that costs no more than a flight of
// packets if it is in vain: the other path is dialled as soon as it has answered, as if this one were not there.
func chooseFirst(paths []*path) *path {
	switch {
	case len(paths) == 0 || len(paths) > 2:
		return nil
	case len(paths) == 2 && (is4(paths[0].addr) == is4(paths[1].addr) || private(paths[0].addr.Addr()) || private(paths[1].addr.Addr())):
		return nil
	}
	best := paths[0]
	if len(paths) == 2 && better(paths[1], best) {
		best = paths[1]
	}
	if best.kind == pb.Candidate_PEER_REFLEXIVE {
		return nil
	}
	return best
}

// private tells whether an address means another host in another network (RFC 1918, 4193, 6598).
func private(a netip.Addr) bool {
	b := a.As16()
	cgnat := a.Is4() && b[12] == 100 && b[13]&0xc0 == 64
	return a.IsPrivate() || cgnat
}

// atOnce tells whether c is to be dialled without having answered. A path that has come up since, by a peer-reflexive
// address, takes the privilege from a single candidate.
func (p *punch) atOnce(c *path) bool {
	return c == p.first && (p.several || len(p.paths) == 1)
}

// held returns until when c leaves the way to the path that was dialled first; the zero Time: it need not.
func (p *punch) held(c *path) time.Time {
	f := p.first
	if !p.several || f == nil || c == f || c.kind == pb.Candidate_PEER_REFLEXIVE || !c.open() ||
		f.dials == 0 || f.open() || f.idle || f.excluded {
		return time.Time{}
	}
	return c.firstFrom.Add(firstGrace + c.rtt/2)
}

// prefers tells whether to dial c rather than best, which may be nil. A path on which small packets pass and a handshake
// did not comes last.
func prefers(c, best *path) bool {
	switch {
	case best == nil:
		return true
	case c.lossy() != best.lossy():
		return best.lossy()
	}
	return better(c, best)
}

func (p *path) lossy() bool { return p.dials > 0 && !p.missed && !p.idle }

// better prefers the shorter way: host candidates, then IPv6 (RFC 8421), then the rest in the order given.
func better(a, b *path) bool {
	ha, hb := a.kind == pb.Candidate_HOST, b.kind == pb.Candidate_HOST
	if ha != hb {
		return ha
	}
	return !is4(a.addr) && is4(b.addr)
}
