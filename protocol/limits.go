package protocol

import "time"

const (
	// ALPNControl is the ALPN word (RFC 7301) of the connection between a peer and the rendezvous.
	ALPNControl = "bradawl/1"
	// ALPNPeer is the ALPN word of a connection between two peers.
	ALPNPeer = "bradawl-peer/1"
	// DefaultPort is the UDP port of the rendezvous when the connection string names none: STUN's, RFC 8489 section 18.
	DefaultPort = 3478
)

// Bounds that both sides keep; a message that exceeds one of them is refused.
const (
	// MaxSignIn bounds, in bytes, the first message of a control stream, the only one read before authentication.
	MaxSignIn = 16 << 10
	// MaxClientMessage bounds, in bytes, each later message of a client.
	MaxClientMessage = 64 << 10
	// MaxServerMessage bounds, in bytes, each message of the server; it splits an order that would be larger.
	MaxServerMessage = 1 << 20

	// MaxNameLen bounds, in bytes, the name of a peer.
	MaxNameLen = 128
	// MaxGroupLen bounds, in bytes, the name of a group.
	MaxGroupLen = 128
	// MaxRoleLen bounds, in bytes, a role.
	MaxRoleLen = 64
	// MaxCollectiveLen bounds, in bytes, the name of a collective.
	MaxCollectiveLen = 128
	// MaxAgentLen bounds, in bytes, what a client says of its program and version.
	MaxAgentLen = 64

	// MaxHostCandidates bounds the host candidates of a sign-in.
	MaxHostCandidates = 8
	// MaxCandidates bounds the candidates of one session in an order.
	MaxCandidates = 12
	// MaxPeerReflexive bounds the peer-reflexive candidates (RFC 8445 section 7.3.1.3) that a peer tries in one session.
	MaxPeerReflexive = 4

	// MaxSockets bounds the sockets that one order makes a peer open.
	MaxSockets = 256
	// MaxGuesses bounds the ports that one order makes a peer try.
	MaxGuesses = 2048
	// MaxGuessesPerSecond bounds the INITs to guessed ports that a peer sends, all its sessions together.
	MaxGuessesPerSecond = 4000
	// LowestGuess is the lowest port that is guessed: below it are services.
	LowestGuess = 1024
)

// MinPathPacket is the largest QUIC packet, in bytes, that fits every IPv6 path: the least MTU of RFC 8200 section 5
// without the headers of IPv6 and UDP.
const MinPathPacket = 1280 - 40 - 8

// DefaultWindow is how far apart the first INITs of two peers may be sent
// unless the server is set to another value.
const DefaultWindow = 500 * time.Millisecond
