package client

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/bradawl/bradawl/protocol"
)

// diverter is a socket that hands over what is not QUIC's before quic-go sees it.
type diverter interface {
	divert(f func(b []byte, from net.Addr))
}

// readPackets takes everything off the transport that is not QUIC, where the socket cannot divert it. quic-go
// queues only 32 such packets and drops more, so nothing here waits.
func (c *Client) readPackets(ctx context.Context, t *quic.Transport) {
	buf := make([]byte, protocol.MaxSTUN+1)
	for {
		n, from, err := t.ReadNonQUICPacket(ctx, buf)
		if err != nil {
			return
		}
		c.packet(time.Now(), buf[:n], addrPort(from), t)
	}
}

// packet handles one packet of unknown origin. Nothing is kept or answered
// unless it belongs to a session, proven by its key, or answers a request of ours.
func (c *Client) packet(now time.Time, b []byte, from netip.AddrPort, t *quic.Transport) {
	if !protocol.IsSTUN(b) || !from.IsValid() {
		return
	}
	if r, err := protocol.ParseBindingResponse(b); err == nil {
		if to := c.sessions.responder(r.TransactionID); to != nil {
			to.response(now, from, r)
		}
		return
	}
	r, err := protocol.ParseBindingRequest(b)
	if err != nil || !r.IsInit() {
		return
	}
	c.inits.Add(1)
	if a := c.sessions.attempt(r.Session); a != nil {
		a.heard(now, from, r, t)
	}
}
