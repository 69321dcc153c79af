package client

import (
	"net"
	"net/netip"

	"github.com/quic-go/quic-go"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/pb"
)

// PretendIdentity makes c show another certificate to peers than the one that it signed in with.
func PretendIdentity(c *Client, id *identity.Identity) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.identity = id
}

// Held counts what c keeps of sessions: sessions, transactions, addresses expected, connections.
func Held(c *Client) [4]int {
	c.mu.Lock()
	conns := len(c.conns)
	c.mu.Unlock()
	c.sessions.mu.RLock()
	defer c.sessions.mu.RUnlock()
	return [4]int{len(c.sessions.byID), len(c.sessions.transactions), len(c.sessions.expected), conns}
}

// InitsRead counts the INITs that c has taken off its socket.
func InitsRead(c *Client) uint64 { return c.inits.Load() }

// DefaultQUIC is the configuration of links between peers of a client without settings of its own.
func DefaultQUIC() *quic.Config {
	return peerQUICConfig(settings{Config: Config{KeepAlive: defaultKeepAlive, MaxStreamWindow: defaultMaxStreamWindow,
		MaxConnWindow: defaultMaxConnWindow, MaxStreams: defaultMaxStreams}})
}

// ReceiveCoalesced is what a client makes of its socket.
func ReceiveCoalesced(pc net.PacketConn) net.PacketConn { return receiveCoalesced(pc) }

// BreakProtocol makes c send what a signed-in client must not.
func BreakProtocol(c *Client) {
	c.send(&pb.ClientMessage{Body: &pb.ClientMessage_SignIn{SignIn: &pb.SignIn{}}})
}

// FurtherSockets counts the sockets that c holds beside its own.
func FurtherSockets(c *Client) int { return int(c.further.used.Load()) }

// Observed is where the rendezvous sees c.
func Observed(c *Client) netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.observed
}

// SendBetween sends a packet that means nothing from c's socket.
func SendBetween(c *Client, to netip.AddrPort) {
	c.write(protocol.AppendBindingRequest(nil, newTransaction()), to)
}
