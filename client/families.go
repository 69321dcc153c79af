package client

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

const (
	// otherFamilyAfter is how long the server's preferred address has for itself before the one of the other family is
	// tried too: RFC 8305's Connection Attempt Delay.
	otherFamilyAfter = 250 * time.Millisecond
	// addressRenewal is how often the address in the other family is proven anew. It holds the NAT's mapping there.
	addressRenewal = 20 * time.Second
)

// endpoints are the server's addresses, at most one of each family; invalid: none.
type endpoints struct{ v4, v6 netip.AddrPort }

// of returns the address of a family.
func (e endpoints) of(v4 bool) netip.AddrPort {
	if v4 {
		return e.v4
	}
	return e.v6
}

// inOrder lists them, the preferred one first. That is IPv4: where both work, the control connection then holds the
// mapping of the NAT, and IPv6 needs none.
func (e endpoints) inOrder() (out []netip.AddrPort) {
	for _, a := range []netip.AddrPort{e.v4, e.v6} {
		if a.IsValid() {
			out = append(out, a)
		}
	}
	return out
}

func is4(a netip.AddrPort) bool { return a.Addr().Is4() }

// families tells which families a socket bound to that address serves.
func families(bound netip.AddrPort) (v4, v6 bool) {
	a := bound.Addr()
	switch {
	case !a.IsValid(): // no UDPAddr: it will show
		return true, true
	case a.Is4():
		return true, false
	}
	return a.IsUnspecified(), true
}

// oneFamily tells whether this peer cannot have addresses of both families.
func (c *Client) oneFamily() bool {
	v4, v6 := families(c.bound)
	has := func(four bool) bool {
		return slices.ContainsFunc(c.hosts, func(h netip.AddrPort) bool { return is4(h) == four })
	}
	return !(v4 && v6 && has(true) && has(false))
}

// dialAny makes the QUIC handshake with the first of the server's addresses that answers.
func (c *Client) dialAny(ctx context.Context, to endpoints) (*quic.Conn, netip.AddrPort, error) {
	addrs := to.inOrder()
	if len(addrs) == 1 {
		qc, err := c.dialServer(ctx, addrs[0])
		return qc, addrs[0], err
	}
	type result struct {
		i   int
		qc  *quic.Conn
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan result, len(addrs))
	var dials sync.WaitGroup
	dial := func(i int) {
		dials.Go(func() {
			qc, err := c.dialServer(ctx, addrs[i])
			results <- result{i, qc, err}
		})
	}
	dial(0)
	next := time.NewTimer(otherFamilyAfter)
	defer next.Stop()
	errs := make([]error, len(addrs))
	for started, failed := 1, 0; ; {
		select {
		case <-next.C:
			if started < len(addrs) {
				dial(started)
				started++
			}
			continue
		case r := <-results:
			if r.err == nil {
				cancel()
				dials.Wait()
				if started > failed+1 { // the slower one may have made it too
					if late := <-results; late.err == nil {
						_ = late.qc.CloseWithError(0, "")
					}
				}
				return r.qc, addrs[r.i], nil
			}
			errs[r.i] = r.err
			failed++
			if started < len(addrs) {
				dial(started)
				started++
			}
		}
		if failed == len(addrs) {
			cancel()
			dials.Wait()
			return nil, addrs[0], tellingError(errs)
		}
	}
}

// tellingError chooses the error that says more than that nobody answers.
func tellingError(errs []error) error {
	for _, err := range errs {
		if e, ok := errors.AsType[*Error](err); ok && e.Reason != protocol.ReasonServerUnreachable {
			return err
		}
	}
	return errs[0]
}

// otherAddress returns the server's address of the other family than the control connection's; invalid: none.
func (ctl *control) otherAddress(known endpoints) netip.AddrPort {
	v4 := !is4(ctl.server)
	for _, m := range ctl.hello.GetServerAddresses() {
		if a, err := protocol.AddrFromPB(m); err == nil && is4(a) == v4 {
			return a
		}
	}
	return known.of(v4)
}

// proveAddress has the server witness our address in the other family and tells it so; false: no answer came.
func (c *Client) proveAddress(ctx context.Context, ctl *control) (netip.AddrPort, bool) {
	w := c.witnessed(ctx, c.transport, ctl.other)
	if !w.address.IsValid() {
		return netip.AddrPort{}, false
	}
	ctl.send(&pb.ClientMessage{Body: &pb.ClientMessage_AddressProof{AddressProof: &pb.AddressProof{
		Second: &pb.Witnessed{Address: protocol.AddrToPB(w.address), Witness: w.word}}}})
	return w.address, true
}

// findFamilies looks afresh which families work as far as the server.
func (c *Client) findFamilies(ctx context.Context, ctl *control, r *NetReport) {
	var second netip.AddrPort
	why := "the server's address in it is not known"
	switch {
	case c.oneFamily():
		why = "this host has no address of that family"
	case ctl.other.IsValid():
		why = "no answer from " + ctl.other.String()
		second, _ = c.proveAddress(ctx, ctl)
	}
	if is4(ctl.server) {
		r.IPv4, r.IPv6, r.NoIPv6 = r.Observed, second, why
	} else {
		r.IPv6, r.IPv4, r.NoIPv4 = r.Observed, second, why
	}
	if second.IsValid() {
		r.NoIPv4, r.NoIPv6 = "", ""
	}
}

// keepAddress keeps the address in the other family proven while the control connection lasts.
func (c *Client) keepAddress(ctl *control) {
	ctx := ctl.qc.Context()
	for first := true; ; first = false {
		a, ok := c.proveAddress(ctx, ctl)
		c.mu.Lock()
		changed := c.control == ctl && c.second != a
		if c.control == ctl {
			c.second = a
		}
		c.mu.Unlock()
		if changed || first {
			e := Event{Kind: EventAddress, Addr: a}
			if !ok {
				e.Detail = "no answer from " + ctl.other.String()
			}
			c.emit(e)
		}
		if ctx.Err() != nil || !c.sleep(addressRenewal, ctx.Done()) || ctx.Err() != nil {
			return
		}
	}
}

// localFor returns our own address as packets to that one carry it before any NAT.
func (c *Client) localFor(remote netip.AddrPort) netip.AddrPort {
	if !remote.IsValid() || !c.local.IsValid() || is4(c.local) == is4(remote) {
		return c.local
	}
	for _, h := range c.hosts {
		if is4(h) == is4(remote) {
			return h
		}
	}
	return c.local
}

// peerConfigFor is the configuration of a link to an address: what is sent before the path's MTU is known must fit every
// path of its family.
func (c *Client) peerConfigFor(remote net.Addr) *quic.Config {
	if addrPort(remote).Addr().Is4() {
		return c.peerQUIC
	}
	return c.peerQUIC6
}
