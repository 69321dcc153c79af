package client

import (
	"fmt"

	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/pb"
)

// Peer is one incarnation of another peer of the group: a process that comes
// back under its old name with a fresh identity is another Peer.
type Peer struct {
	// Name and Role are those that it signed in with.
	Name, Role string
	// Fingerprint is the key that it proved to the rendezvous and, on a Conn, to us.
	Fingerprint identity.Fingerprint
}

func peerFromPB(p *pb.PeerInfo) (Peer, error) {
	fp, err := identity.FingerprintFromBytes(p.GetFingerprint())
	if err != nil {
		return Peer{}, fmt.Errorf("peer %q: %w", p.GetName(), err)
	}
	return Peer{Name: p.GetName(), Role: p.GetRole(), Fingerprint: fp}, nil
}

func (p Peer) ref() *pb.PeerRef {
	return &pb.PeerRef{Name: p.Name, Fingerprint: p.Fingerprint[:]}
}
