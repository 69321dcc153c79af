package client

import (
	"context"
	"crypto/rand"
	"net/netip"
	"slices"
	"time"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

// Mapping is how a NAT maps, in the words of RFC 4787 section 4.1.
type Mapping string

// The mapping behaviours. Two ports on one address, which is all that a single
// rendezvous offers, tell address-and-port-dependent mapping from the rest:
// MappingEndpointIndependent may therefore be address-dependent in truth.
const (
	MappingUnknown                 Mapping = "unknown"
	MappingNone                    Mapping = "none"
	MappingEndpointIndependent     Mapping = "endpoint-independent"
	MappingAddressDependent        Mapping = "address-dependent"
	MappingAddressAndPortDependent Mapping = "address-and-port-dependent"
)

func mappingFromPB(m pb.MappingBehavior) Mapping {
	switch m {
	case pb.MappingBehavior_MAPPING_NONE:
		return MappingNone
	case pb.MappingBehavior_MAPPING_ENDPOINT_INDEPENDENT:
		return MappingEndpointIndependent
	case pb.MappingBehavior_MAPPING_ADDRESS_DEPENDENT:
		return MappingAddressDependent
	case pb.MappingBehavior_MAPPING_ADDRESS_AND_PORT_DEPENDENT:
		return MappingAddressAndPortDependent
	}
	return MappingUnknown
}

func (m Mapping) pb() pb.MappingBehavior {
	switch m {
	case MappingNone:
		return pb.MappingBehavior_MAPPING_NONE
	case MappingEndpointIndependent:
		return pb.MappingBehavior_MAPPING_ENDPOINT_INDEPENDENT
	case MappingAddressDependent:
		return pb.MappingBehavior_MAPPING_ADDRESS_DEPENDENT
	case MappingAddressAndPortDependent:
		return pb.MappingBehavior_MAPPING_ADDRESS_AND_PORT_DEPENDENT
	}
	return pb.MappingBehavior_MAPPING_UNKNOWN
}

// stunRetries are the waits for an answer to a Binding request; RFC 8489
// section 6.2.1 doubles from 500 ms, but here the path is known to work.
func stunRetries() []time.Duration {
	return []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond}
}

// natResult is what discovery found out.
type natResult struct {
	mapping Mapping
	mapped  [2]netip.AddrPort // by the main and the alternate port; invalid: no answer
	kept    bool              // the source port
}

// judge compares what the two ports of the server saw with the own addresses.
func judge(mapped [2]netip.AddrPort, hosts []netip.AddrPort, bound uint16) natResult {
	r := natResult{mapping: MappingUnknown, mapped: mapped}
	a, b := mapped[0], mapped[1]
	switch {
	case !a.IsValid() && !b.IsValid():
		return r
	case !a.IsValid():
		a = b
	}
	r.kept = a.Port() == bound
	switch {
	case slices.Contains(hosts, a):
		r.mapping = MappingNone
	case !b.IsValid() || !mapped[0].IsValid():
	case a == b:
		r.mapping = MappingEndpointIndependent
	default:
		r.mapping = MappingAddressAndPortDependent
	}
	return r
}

// probe waits for the answer to one plain Binding request.
type probe struct {
	from   netip.AddrPort
	answer chan netip.AddrPort // holds one
}

func (p *probe) response(_ time.Time, from netip.AddrPort, r protocol.Response) {
	if from != p.from {
		return
	}
	select {
	case p.answer <- r.Mapped:
	default:
	}
}

// binding asks a STUN server for our mapped address; it returns an invalid one if no answer comes.
func (c *Client) binding(ctx context.Context, server netip.AddrPort) netip.AddrPort {
	p := &probe{from: server, answer: make(chan netip.AddrPort, 1)}
	var tids [][12]byte
	defer func() { c.sessions.forget(tids...) }()
	for _, wait := range stunRetries() {
		var tid [12]byte
		_, _ = rand.Read(tid[:]) // does not fail
		tids = append(tids, tid)
		c.sessions.sent(tid, p)
		c.write(protocol.AppendBindingRequest(nil, tid), server)
		t := time.NewTimer(wait)
		select {
		case mapped := <-p.answer:
			t.Stop()
			return mapped
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return netip.AddrPort{}
		}
	}
	return netip.AddrPort{}
}

// lookAtNAT asks both ports of the server.
func (c *Client) lookAtNAT(ctx context.Context, ctl *control) natResult {
	var mapped [2]netip.AddrPort
	done := make(chan struct{})
	c.wg.Go(func() {
		defer close(done)
		if port := ctl.hello.GetStunAlternate().GetPort(); port > 0 && port <= 65535 {
			mapped[1] = c.binding(ctx, netip.AddrPortFrom(ctl.server.Addr(), uint16(port)))
		}
	})
	mapped[0] = c.binding(ctx, ctl.server)
	<-done
	return judge(mapped, c.hosts, c.bound.Port())
}

// discoverMapping finds out how the NAT maps and tells the server. Nothing waits for it.
func (c *Client) discoverMapping(ctl *control) {
	ctx, cancel := context.WithCancel(ctl.qc.Context())
	defer cancel()
	r := c.lookAtNAT(ctx, ctl)
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	c.nat = r
	addr := c.observed
	c.mu.Unlock()
	ctl.send(&pb.ClientMessage{Body: &pb.ClientMessage_NatReport{NatReport: &pb.NatReport{
		Mapping: r.mapping.pb(), PortPreserved: r.kept}}})
	c.emit(Event{Kind: EventNAT, Addr: addr, Detail: string(r.mapping)})
}

// mappingVaries tells whether our own NAT maps each destination anew.
func (c *Client) mappingVaries() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nat.mapping == MappingAddressAndPortDependent
}
