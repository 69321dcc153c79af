package protocol

import (
	"slices"

	"github.com/bradawl/bradawl/protocol/pb"
)

// Reason says why a connection, or a request for one, failed. The same word
// stands in the error, in the log and as the metric's label. The zero value,
// ReasonOK, is the absence of a failure.
type Reason string

// The reasons. There are no others: an unknown one from the wire becomes
// ReasonCanceled by ReasonFromPB.
const (
	// ReasonOK is no failure.
	ReasonOK Reason = ""
	// ReasonNoPeer: nobody of that name is signed in, or the peer went away.
	ReasonNoPeer Reason = "no_peer"
	// ReasonUnauthorized: the token, the group, the name or the key was refused.
	ReasonUnauthorized Reason = "unauthorized"
	// ReasonWindowMissed: the peers sent their first INITs further apart than the window.
	ReasonWindowMissed Reason = "window_missed"
	// ReasonMappingVaries: a NAT maps each destination anew (RFC 4787's address-and-port-dependent mapping), so that the observed address is not the one to reach.
	ReasonMappingVaries Reason = "mapping_varies"
	// ReasonNoInbound: INITs went out, none came in.
	ReasonNoInbound Reason = "no_inbound"
	// ReasonUDPBlocked: the network lets no UDP out, although TCP reaches the server.
	ReasonUDPBlocked Reason = "udp_blocked"
	// ReasonQUICTimeout: INITs passed, the QUIC handshake did not.
	ReasonQUICTimeout Reason = "quic_timeout"
	// ReasonIdentityMismatch: the other side proved a key other than the one that the order, or the connection string, names.
	ReasonIdentityMismatch Reason = "identity_mismatch"
	// ReasonProofFailed: the handshake passed, full-size data did not.
	ReasonProofFailed Reason = "proof_failed"
	// ReasonServerUnreachable: the rendezvous did not answer.
	ReasonServerUnreachable Reason = "server_unreachable"
	// ReasonLimited: a limit of the server was reached.
	ReasonLimited Reason = "limited"
	// ReasonCanceled: the caller no longer wants it.
	ReasonCanceled Reason = "canceled"
)

// inOrder lists the reasons at the index of their number on the wire.
func inOrder() []Reason {
	return []Reason{
		ReasonOK, ReasonNoPeer, ReasonUnauthorized, ReasonWindowMissed, ReasonMappingVaries, ReasonNoInbound,
		ReasonUDPBlocked, ReasonQUICTimeout, ReasonIdentityMismatch, ReasonProofFailed, ReasonServerUnreachable,
		ReasonLimited, ReasonCanceled,
	}
}

// Reasons returns all reasons but ReasonOK, in the order of their numbers on the wire.
func Reasons() []Reason { return inOrder()[1:] }

// ReasonFromPB translates from the wire. A number that this version does not know becomes ReasonCanceled.
func ReasonFromPB(r pb.Reason) Reason {
	if all := inOrder(); r >= 0 && int(r) < len(all) {
		return all[r]
	}
	return ReasonCanceled
}

// PB translates to the wire. A Reason that is none of the constants becomes pb.Reason_CANCELED.
func (r Reason) PB() pb.Reason {
	if i := slices.Index(inOrder(), r); i >= 0 {
		return pb.Reason(i)
	}
	return pb.Reason_CANCELED
}

// Explain says in one sentence, for people, what the reason means and what can be done.
func (r Reason) Explain() string {
	switch r {
	case ReasonOK:
		return "it worked"
	case ReasonNoPeer:
		return "no peer of that name is signed in to this group; start it, or check group and name"
	case ReasonUnauthorized:
		return "the server refused the token, group or name; ask for a connection string that covers them"
	case ReasonWindowMissed:
		return "the two peers did not send at nearly the same time; the machine may be overloaded"
	case ReasonMappingVaries:
		return "a NAT gives every destination another port (symmetric), so no address of it can be known in advance"
	case ReasonNoInbound:
		return "packets went out and none came in; a firewall or NAT in between drops them"
	case ReasonUDPBlocked:
		return "this network lets no UDP out; allow UDP to the server's port and to peers"
	case ReasonQUICTimeout:
		return "the NATs are open, but the QUIC handshake did not finish; the path may lose large packets"
	case ReasonIdentityMismatch:
		return "somebody else answered: the key is not the expected one; the connection was refused"
	case ReasonProofFailed:
		return "the handshake passed, but full-size packets did not come through"
	case ReasonServerUnreachable:
		return "the rendezvous server does not answer; check its address, its process and the firewall for UDP"
	case ReasonLimited:
		return "a limit of the server was reached; try again later or raise it"
	case ReasonCanceled:
		return "the caller gave up waiting"
	}
	return "unknown reason"
}
