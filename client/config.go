package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
)

// Config says who signs in, where, and how its links behave. URL, Group and
// Name are required; the zero value of every other field is a good default.
type Config struct {
	// URL is the connection string, bradawl://TOKEN@host:port?pin=... It
	// contains a token: keep it out of logs and arguments.
	URL string
	// Group is the set of peers that may connect to one another; at most
	// protocol.MaxGroupLen bytes.
	Group string
	// Name is this peer's name, unique in the group; at most protocol.MaxNameLen bytes.
	Name string
	// Role is a free word that Bipartite and WaitPeers select by; at most
	// protocol.MaxRoleLen bytes. May be empty.
	Role string

	// PacketConn is the UDP socket to use. The client takes it over and closes
	// it. One that is bound to the unspecified IPv6 address serves both families.
	// Nil: a socket of its own, on a port that the system chooses, for both.
	PacketConn net.PacketConn
	// ListenPacket opens further UDP sockets on the network of PacketConn: for
	// the discovery of the NAT's behaviour, each for one test, and for
	// connections that a NAT lets through no other way, up to 256 for a second
	// and one for each connection made so. Nil: sockets like the client's own
	// or, if PacketConn is set, none, and what needs them is not found out or
	// fails.
	ListenPacket func() (net.PacketConn, error)
	// HostAddrs are the addresses at which hosts of the same local network
	// reach PacketConn; they are offered only to peers behind the same public
	// address. Nil: the address that PacketConn is bound to or, if that is
	// unspecified, those of this process's interfaces. Set it where PacketConn
	// belongs to another network namespace.
	HostAddrs []netip.Addr
	// DialTCP makes the one TCP connection that tells a network that blocks UDP
	// from a server that is not there. Nil: net.Dialer.
	DialTCP func(ctx context.Context, network, address string) (net.Conn, error)
	// LookupNetIP resolves the server's host name, as net.Resolver's method does.
	// Nil: that of net.DefaultResolver.
	LookupNetIP func(ctx context.Context, network, host string) ([]netip.Addr, error)
	// Identity is the key that this peer is known by. Nil: a fresh one. A peer
	// that signs in again with the same identity takes its place back.
	Identity *identity.Identity

	// SignInTimeout bounds one sign-in, the QUIC handshake included. 0: 10 s.
	SignInTimeout time.Duration
	// ServerTimeout is how long a pending Connect waits for a rendezvous that
	// has gone away. 0: 15 s.
	ServerTimeout time.Duration
	// KeepAlive is the interval of keep-alives on links to peers; a link on
	// which nothing has been heard for two and a half intervals is lost. It also
	// holds the NAT's mapping, so do not exceed 20 s. 0: 4 s, a lost link is
	// noticed within 10 s. Less than 200 ms counts as 200 ms.
	KeepAlive time.Duration
	// MaxStreamWindow and MaxConnWindow bound, in bytes, how much a peer may
	// send ahead of what was read, per stream and per connection. The product
	// of a path's bandwidth and its round trip must fit, or the window limits
	// the rate; memory is used only as data waits. 0: 16 MiB and 32 MiB.
	// Windows start at 1 MiB and 2 MiB and grow while the reader keeps up.
	MaxStreamWindow, MaxConnWindow uint64
	// MaxStreams is how many streams of each kind a peer may have open at once
	// on one connection. 0: 1024.
	MaxStreams int64

	// Agent is the program and its version, for the server's log; at most 64 bytes.
	Agent string
	// OnEvent is called for each event, if not nil. Calls come from several
	// goroutines at once, on the path of the connection being made: return
	// fast and call nothing of this package from within.
	OnEvent func(Event)
}

const (
	defaultSignInTimeout   = 10 * time.Second
	defaultServerTimeout   = 15 * time.Second
	defaultKeepAlive       = 4 * time.Second
	minKeepAlive           = 200 * time.Millisecond
	defaultMaxStreamWindow = 16 << 20
	defaultMaxConnWindow   = 32 << 20
	defaultMaxStreams      = 1024
	maxAgentLen            = 64
)

// settings is a Config that was checked, its defaults filled in.
type settings struct {
	Config
	url protocol.URL
}

func (cfg Config) check() (settings, error) {
	s := settings{Config: cfg}
	if cfg.URL == "" {
		return s, errors.New("no connection string: set URL to the bradawl:// string of the rendezvous")
	}
	u, err := protocol.ParseURL(cfg.URL)
	if err != nil {
		return s, err
	}
	s.url = u
	s.URL = "" // the token is needed in one place only
	for _, f := range []struct {
		what, value string
		max         int
		required    bool
	}{
		{"group", cfg.Group, protocol.MaxGroupLen, true},
		{"name", cfg.Name, protocol.MaxNameLen, true},
		{"role", cfg.Role, protocol.MaxRoleLen, false},
	} {
		switch {
		case f.required && f.value == "":
			return s, fmt.Errorf("no %s given", f.what)
		case len(f.value) > f.max:
			return s, fmt.Errorf("%s has %d bytes, at most %d are allowed", f.what, len(f.value), f.max)
		}
	}
	if len(s.Agent) > maxAgentLen {
		s.Agent = s.Agent[:maxAgentLen]
	}
	setDefault(&s.SignInTimeout, defaultSignInTimeout)
	setDefault(&s.ServerTimeout, defaultServerTimeout)
	setDefault(&s.KeepAlive, defaultKeepAlive)
	s.KeepAlive = max(s.KeepAlive, minKeepAlive)
	setDefault(&s.MaxStreamWindow, defaultMaxStreamWindow)
	setDefault(&s.MaxConnWindow, defaultMaxConnWindow)
	setDefault(&s.MaxStreams, defaultMaxStreams)
	if s.DialTCP == nil {
		s.DialTCP = new(net.Dialer).DialContext
	}
	if s.LookupNetIP == nil {
		s.LookupNetIP = net.DefaultResolver.LookupNetIP
	}
	return s, nil
}

func setDefault[T int64 | uint64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}
