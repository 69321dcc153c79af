package rendezvous

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/token"
)

// Config is what a [Server] is made of. PacketConn, Identity and Verifier must be set.
type Config struct {
	// PacketConn is the UDP socket of the control connections and of STUN. The server closes it.
	PacketConn net.PacketConn
	// AltPacketConn is a UDP socket on another port of the same address, which answers STUN only. With it a peer finds
	// out whether its NAT maps each destination anew. Nil: none. The server closes it.
	AltPacketConn net.PacketConn
	// OtherPacketConn is a UDP socket on another IP address, best of another network interface, which answers STUN only.
	// With it a peer can tell all mapping and filtering behaviours of RFC 4787 apart. Nil: none. The server closes it.
	OtherPacketConn net.PacketConn
	// OtherAddr is where clients reach OtherPacketConn. The zero value: its local address, which must be specific then;
	// behind a 1:1 NAT, as on EC2, set the public one.
	OtherAddr netip.AddrPort
	// Addrs are where clients reach PacketConn, at most one address of each family. A client learns them when it signs in,
	// and by that of the other family than its own the server observes its address there. Empty: a client whose connection
	// string names an address rather than a host has one family only.
	Addrs []netip.AddrPort
	// TCPListener answers STUN over TCP (RFC 8489 section 6.2.2), on the port of PacketConn, so that a client can tell a
	// network that blocks UDP from a server that is away. Nil: none. The server closes it.
	TCPListener net.Listener
	// Identity is the certificate that clients pin.
	Identity *identity.Identity
	// Verifier checks the tokens.
	Verifier *token.Verifier
	// Window is how far apart the first INITs of two peers may be. 0: [protocol.DefaultWindow].
	Window time.Duration
	// AttemptTimeout is how long after its fire time an attempt may take, round trips to the server not counted. 0: 1.5 s.
	AttemptTimeout time.Duration
	// MaxAttempts is how often a session is tried. 0: 3.
	MaxAttempts int
	// Limits bound what clients can make the server hold. Zero fields take their defaults.
	Limits Limits
	// Registerer gets the metrics. Nil: they are counted, but nobody sees them.
	Registerer prometheus.Registerer
	// Logger gets the log; it never sees a secret. Nil: no log.
	Logger *zap.Logger
}

// Limits bound the server's state and its answers. A zero field means the default given beside it.
type Limits struct {
	// MaxPeers bounds the peers signed in at once: 16384.
	MaxPeers int
	// MaxGroups bounds the groups: 4096.
	MaxGroups int
	// MaxPeersPerGroup bounds the peers of one group: 4096, which is also its largest value, as more would not fit into one
	// Peers message.
	MaxPeersPerGroup int
	// MaxSessions bounds the unfinished sessions of all groups: 262144.
	MaxSessions int
	// MaxSessionsPerGroup bounds the unfinished sessions of one group: 131072.
	MaxSessionsPerGroup int
	// MaxRequestsPerPeer bounds the open Connect, Join and WatchPeers requests of one peer: 4096.
	MaxRequestsPerPeer int
	// MaxCollectivesPerGroup bounds the collectives of one group: 1024.
	MaxCollectivesPerGroup int
	// MaxWait bounds how long a Connect may wait for its peer: 15 min.
	MaxWait time.Duration
	// SignInTimeout bounds the time from the end of the handshake to SignedIn: 5 s.
	SignInTimeout time.Duration
	// MaxPending bounds the connections that are not signed in, handshakes included: 4096. From a quarter of it on, the
	// server sends Retry (RFC 9000 section 8.1.2), so that forged sources hold nothing.
	MaxPending int
	// MaxPendingPerSource bounds those of one IP address (of one /64 in IPv6), again with Retry from a quarter on: 1024.
	MaxPendingPerSource int
	// HandshakesPerSecond is the rate of new connections above which the server sends Retry: 1000.
	HandshakesPerSecond int
	// STUNPerSecond bounds the STUN requests answered in all: 20000.
	STUNPerSecond int
	// STUNPerSource bounds the STUN requests per second answered to one IP address (one /64 in IPv6), with a burst of
	// four seconds' worth: 200.
	STUNPerSource int
	// MaxSources bounds the sources whose rates are remembered: 16384.
	MaxSources int
	// MaxTCPConns bounds the STUN connections over TCP: 256.
	MaxTCPConns int
	// OutboxBytes bounds what waits to be sent to one peer; who does not read is dropped: 8 MiB.
	OutboxBytes int
	// MessagesPerSecond bounds the control messages read from one peer; the rest waits: 2000.
	MessagesPerSecond int
}

const maxPeersPerGroup = 4096

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (l Limits) withDefaults() Limits {
	orDefault(&l.MaxPeers, 16384)
	orDefault(&l.MaxGroups, 4096)
	orDefault(&l.MaxPeersPerGroup, maxPeersPerGroup)
	orDefault(&l.MaxSessions, 262144)
	orDefault(&l.MaxSessionsPerGroup, 131072)
	orDefault(&l.MaxRequestsPerPeer, 4096)
	orDefault(&l.MaxCollectivesPerGroup, 1024)
	orDefault(&l.MaxWait, 15*time.Minute)
	orDefault(&l.SignInTimeout, 5*time.Second)
	orDefault(&l.MaxPending, 4096)
	orDefault(&l.MaxPendingPerSource, 1024)
	orDefault(&l.HandshakesPerSecond, 1000)
	orDefault(&l.STUNPerSecond, 20000)
	orDefault(&l.STUNPerSource, 200)
	orDefault(&l.MaxSources, 16384)
	orDefault(&l.MaxTCPConns, 256)
	orDefault(&l.OutboxBytes, 8<<20)
	orDefault(&l.MessagesPerSecond, 2000)
	return l
}

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.PacketConn == nil:
		return c, errors.New("rendezvous: no UDP socket given")
	case c.Identity == nil:
		return c, errors.New("rendezvous: no identity given")
	case c.Verifier == nil:
		return c, errors.New("rendezvous: no token verifier given")
	case c.Window < 0 || c.AttemptTimeout < 0 || c.MaxAttempts < 0:
		return c, errors.New("rendezvous: window, attempt timeout and attempts must not be negative")
	}
	if c.Limits.MaxPeersPerGroup > maxPeersPerGroup {
		return c, fmt.Errorf("rendezvous: %d peers in a group, must be at most %d, or their list would not fit into a message", c.Limits.MaxPeersPerGroup, maxPeersPerGroup)
	}
	if c.OtherPacketConn != nil && !c.OtherAddr.IsValid() {
		c.OtherAddr = addrPortOf(c.OtherPacketConn.LocalAddr())
	}
	if c.OtherPacketConn != nil && (c.OtherAddr.Addr().IsUnspecified() || c.OtherAddr.Port() == 0) {
		return c, errors.New("rendezvous: the other STUN socket needs a specific address; set OtherAddr")
	}
	for i, a := range c.Addrs {
		if !a.IsValid() || a.Addr().IsUnspecified() || a.Port() == 0 || i > 1 || i == 1 && is4(a) == is4(c.Addrs[0]) {
			return c, fmt.Errorf("rendezvous: addresses %v of the server: want at most one specific address of each family", c.Addrs)
		}
	}
	orDefault(&c.Window, protocol.DefaultWindow)
	orDefault(&c.AttemptTimeout, 1500*time.Millisecond)
	orDefault(&c.MaxAttempts, 3)
	orDefault(&c.Logger, zap.NewNop())
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	c.Limits = c.Limits.withDefaults()
	return c, nil
}
