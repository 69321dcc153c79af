package client

import (
	"net/netip"
	"time"
)

// OtherFamily is what is known of the address family that the control connection does not use. The zero value: the
// server or this peer has no other one.
type OtherFamily struct {
	// Server is the server's address; invalid: it has none, or this peer has none.
	Server netip.AddrPort
	// Observed is ours, as the server last saw it; invalid: it has not.
	Observed netip.AddrPort
}

// otherFamily is for Status. c.mu is held.
func (c *Client) otherFamily() (o OtherFamily) {
	if c.control != nil {
		o.Server, o.Observed = c.control.other, c.second
	}
	return o
}

// Status is a momentary view of a client.
type Status struct {
	// SignedIn tells whether the control connection stands.
	SignedIn bool
	// SignedOutSince is when it was lost; zero while SignedIn.
	SignedOutSince time.Time
	// SentOff is why the client does not sign in again by itself, an [*Error]: it was replaced, its sign-in was
	// refused, or the rendezvous reports a breach of the protocol. Only [Client.Resume] tries again. Nil otherwise.
	SentOff error
	// Observed is our address as the rendezvous last saw it.
	Observed netip.AddrPort
	// OtherFamily is the same in the other family than that of the control connection.
	OtherFamily OtherFamily
	// Local is our address before any NAT.
	Local netip.AddrPort
	// ClockSynced tells whether ClockOffset and ControlRTT are known.
	ClockSynced bool
	// ClockOffset is what must be added to our clock to get the server's.
	ClockOffset time.Duration
	// ControlRTT is the smallest recent round trip to the rendezvous.
	ControlRTT time.Duration
	// Mapping is how our NAT maps; MappingUnknown until that has been found out.
	Mapping Mapping
	// Filtering is which packets our NAT lets in; FilteringUnknown until that has been found out.
	Filtering Filtering
	// PortPreserved tells whether the NAT keeps the source port.
	PortPreserved bool
	// Conns is the number of live connections to peers.
	Conns int
}

// Status returns the state of the client at this moment.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Status{
		SignedIn:       c.control != nil,
		SignedOutSince: c.outSince,
		Observed:       c.observed,
		OtherFamily:    c.otherFamily(),
		Local:          c.local,
		ClockSynced:    c.clock.Synced(),
		ClockOffset:    c.clock.Offset(),
		ControlRTT:     c.clock.RTT(),
		Mapping:        c.nat.mapping,
		Filtering:      c.nat.filtering,
		PortPreserved:  c.nat.kept,
		Conns:          len(c.conns),
	}
	if c.sentOff != nil {
		s.SentOff = c.sentOff
	}
	if s.Mapping == "" {
		s.Mapping = MappingUnknown
	}
	if s.Filtering == "" {
		s.Filtering = FilteringUnknown
	}
	return s
}
