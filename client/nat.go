package client

import (
	"context"
	"crypto/rand"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

// Mapping is how a NAT maps, in the words of RFC 4787 section 4.1.
type Mapping string

// The mapping behaviours. Two ports on one address, which is all that a server
// without a second address offers, tell address-and-port-dependent mapping from
// the rest: MappingEndpointIndependent may then be address-dependent in truth.
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
	mapping   Mapping
	filtering Filtering
	mapped    [3]netip.AddrPort // by the main port, the alternate one and the other address; invalid: no answer
	kept      bool              // the source port
	sequence  bool              // one socket's ports for different destinations are close to one another
}

// sequenceGap is how far apart two ports may be and still count as given out one after the other.
const sequenceGap = 8

// judge compares what the sockets of the server saw with the own addresses.
func judge(mapped [3]netip.AddrPort, hosts []netip.AddrPort, bound uint16) natResult {
	r := natResult{mapping: MappingUnknown, mapped: mapped}
	i := slices.IndexFunc(mapped[:], netip.AddrPort.IsValid)
	if i < 0 {
		return r
	}
	r.kept = mapped[i].Port() == bound
	main, port, address := mapped[0], mapped[1], mapped[2]
	switch {
	case slices.Contains(hosts, mapped[i]):
		r.mapping = MappingNone
	case !main.IsValid():
	case port.IsValid() && port != main:
		r.mapping = MappingAddressAndPortDependent
		gap := int(port.Port()) - int(main.Port())
		r.sequence = port.Addr() == main.Addr() && gap >= -sequenceGap && gap <= sequenceGap
	case address.IsValid() && address == main:
		r.mapping = MappingEndpointIndependent
	case address.IsValid() && port.IsValid():
		r.mapping = MappingAddressDependent
	case port.IsValid():
		r.mapping = MappingEndpointIndependent
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
		tid := newTransaction()
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

// lookAtNAT asks all STUN sockets of the server.
func (c *Client) lookAtNAT(ctx context.Context, ctl *control) natResult {
	var mapped [3]netip.AddrPort
	var wg sync.WaitGroup
	for i, server := range ctl.stunSockets() {
		if server.IsValid() {
			wg.Go(func() { mapped[i] = c.binding(ctx, server) })
		}
	}
	wg.Wait()
	return judge(mapped, c.hosts, c.bound.Port())
}

// discoverNAT finds out how the NAT maps, and then how it filters, and tells the server. Nothing waits for it.
func (c *Client) discoverNAT(ctl *control) {
	ctx, cancel := context.WithCancel(ctl.qc.Context())
	defer cancel()
	r := c.lookAtNAT(ctx, ctl)
	if ctx.Err() != nil {
		return
	}
	c.learnNAT(ctl, r)
	c.mu.Lock()
	addr := c.observed
	c.mu.Unlock()
	c.emit(Event{Kind: EventNAT, Addr: addr, Detail: string(r.mapping)})
	report := NetReport{Filtering: FilteringUnknown}
	newDiscovery(c, ctl, r, 0, &report).findFiltering(ctx)
	if ctx.Err() != nil {
		return
	}
	if r.filtering = report.Filtering; r.filtering != FilteringUnknown {
		c.learnNAT(ctl, r)
	}
	c.emit(Event{Kind: EventFiltering, Addr: addr, Detail: string(report.Filtering)})
}

// mappingVaries tells whether our own NAT maps each destination anew.
func (c *Client) mappingVaries() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nat.mapping == MappingAddressAndPortDependent || c.nat.mapping == MappingAddressDependent
}

// newTransaction returns a random transaction id.
func newTransaction() (tid [12]byte) {
	_, _ = rand.Read(tid[:]) // does not fail
	return tid
}
