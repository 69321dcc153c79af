package client

import (
	"net/netip"
	"time"

	"github.com/bradawl/bradawl/protocol"
)

// EventKind says what an Event tells.
type EventKind string

// The kinds of events, with the fields that are set beside Time.
const (
	// EventSignedIn: the rendezvous accepted the sign-in. Addr is the observed address.
	EventSignedIn EventKind = "signed_in"
	// EventControlLost: the control connection broke. Err says why.
	EventControlLost EventKind = "control_lost"
	// EventRetrying: a sign-in failed and is tried again after Delay. Err says why.
	EventRetrying EventKind = "retrying"
	// EventSentOff: the rendezvous does not want this client back; only Resume tries again. Err says why.
	EventSentOff EventKind = "sent_off"
	// EventDraining: the rendezvous is going away; the next sign-in follows after Delay.
	EventDraining EventKind = "draining"
	// EventAddress: the rendezvous has seen this peer's address in the other family than the control connection's: Addr; or
	// it has not, and Detail says why.
	EventAddress EventKind = "address"
	// EventNAT: the NAT's behaviour became known. Detail is RFC 4787's word, Addr the mapped address.
	EventNAT EventKind = "nat"
	// EventFiltering: the looking at the NAT after a sign-in is over. Detail is how it filters in RFC 4787's words, or
	// "unknown", Addr the mapped address.
	EventFiltering EventKind = "filtering"
	// EventOrder: the rendezvous ordered an attempt. Session, Peer, Attempt; Delay is the time until it fires.
	EventOrder EventKind = "order"
	// EventInitOut: an INIT went out, by the client's socket or a fresh one; those of many sockets and to guessed ports are
	// not told one by one. Session, Peer, Attempt, Addr.
	EventInitOut EventKind = "init_out"
	// EventInitIn: a valid INIT came in. Session, Peer, Attempt, Addr.
	EventInitIn EventKind = "init_in"
	// EventInitAnswered: an INIT of ours was answered. Session, Peer, Attempt, Addr; Delay is the round trip.
	EventInitAnswered EventKind = "init_answered"
	// EventDial: a QUIC handshake began. Session, Peer, Attempt, Addr.
	EventDial EventKind = "dial"
	// EventConnected: a handshake completed. Session, Peer, Attempt, Addr; Delay is the time since the order.
	EventConnected EventKind = "connected"
	// EventProven: full-size packets passed both ways. Session, Peer, Attempt, Addr; Delay is the time since the order.
	EventProven EventKind = "proven"
	// EventAttemptFailed: an attempt failed here; the rendezvous may order another. Session, Peer, Attempt, Err.
	EventAttemptFailed EventKind = "attempt_failed"
	// EventFailed: the rendezvous gave a session up. Session, Peer, Err.
	EventFailed EventKind = "failed"
	// EventPeerLost: a connection to a peer ended. Session, Peer, Addr, Err.
	EventPeerLost EventKind = "peer_lost"
	// EventRelinking: a new connection is made in place of a lost one. Session (the lost one's), Peer.
	EventRelinking EventKind = "relinking"
)

// Event is something that happened, for logs, metrics and curiosity. Fields
// that a kind does not name are zero.
type Event struct {
	// Kind says what happened.
	Kind EventKind
	// Time is when, on the local clock.
	Time time.Time
	// Session is the pair's session.
	Session protocol.SessionID
	// Peer is the other side's name.
	Peer string
	// Attempt counts the attempts of a session from 1.
	Attempt uint32
	// Addr is the address it happened with.
	Addr netip.AddrPort
	// Delay is the duration that the kind describes.
	Delay time.Duration
	// Detail is a word or line for people.
	Detail string
	// Err is why; never with a secret in it.
	Err error
}

// emit passes e on; the caller leaves Time zero.
func (c *Client) emit(e Event) {
	if c.cfg.OnEvent == nil {
		return
	}
	e.Time = time.Now()
	c.cfg.OnEvent(e)
}
