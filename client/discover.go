package client

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

// Test is one of the things that discovery can find out.
type Test string

// The tests.
const (
	// TestMapping: how the NAT maps, and whether it keeps the source port. A few round trips.
	TestMapping Test = "mapping"
	// TestFiltering: which packets the NAT lets in. Some ten round trips.
	TestFiltering Test = "filtering"
	// TestHairpinning: whether two peers behind the NAT reach each other by its public address. At most half a second.
	TestHairpinning Test = "hairpinning"
	// TestPathMTU: the largest packet that reaches the server. Some ten round trips, about a second where packets are lost.
	TestPathMTU Test = "path MTU"
	// TestLifetime: how long an idle mapping lasts. It takes as long as that, and longer.
	TestLifetime Test = "mapping lifetime"
)

// Tests lists all tests, in the order in which they run.
func Tests() []Test {
	return []Test{TestMapping, TestFiltering, TestHairpinning, TestPathMTU, TestLifetime}
}

// DiscoverOptions says what [Client.Discover] is to find out. The zero value is everything that takes a few seconds.
type DiscoverOptions struct {
	// Tests are those to run. Nil: all. [TestMapping] always runs, as the others build on it.
	Tests []Test
	// LifetimeBudget is how long [TestLifetime] may take. Lifetimes up to nearly that are found, those well below it to
	// about a twentieth. 0: it is not run; a NAT may keep mappings for many minutes.
	LifetimeBudget time.Duration
}

func (o DiscoverOptions) wants(t Test) bool { return o.Tests == nil || slices.Contains(o.Tests, t) }

// Untested says that a test was not run or came to no result.
type Untested struct {
	Test Test
	// Why is one clause for people.
	Why string
}

// discovery is one run of the tests.
type discovery struct {
	c                      *Client
	main, alternate, other netip.AddrPort // the server's sockets; invalid: has none, or it does not answer
	nat                    natResult
	rtt                    time.Duration
	report                 *NetReport
}

// untested notes that a test has no result.
func (d *discovery) untested(t Test, why string) {
	d.report.Untested = append(d.report.Untested, Untested{t, why})
}

// Discover looks at the network afresh. It uses sockets of its own beside the client's: see [Config.ListenPacket]. What
// could not be found out, and why, stands in the report. The error is an [*Error]: the server is away, or ctx ended.
func (c *Client) Discover(ctx context.Context, opts DiscoverOptions) (NetReport, error) {
	const op = "look at the network"
	rtt, err := c.Ping(ctx)
	if err != nil {
		return NetReport{}, err
	}
	c.mu.Lock()
	ctl, observed := c.control, c.observed
	c.mu.Unlock()
	if ctl == nil {
		return NetReport{}, &Error{Op: op, Reason: protocol.ReasonServerUnreachable, Detail: "signed out"}
	}
	nat := c.lookAtNAT(ctx, ctl)
	r := NetReport{
		Observed: observed, MainMapped: nat.mapped[0], AlternateMapped: nat.mapped[1], OtherMapped: nat.mapped[2],
		Hosts: c.hosts, Mapping: nat.mapping, PortPreserved: nat.kept, Filtering: FilteringUnknown,
		Hairpinning: VerdictUnknown, ControlRTT: rtt,
	}
	c.findFamilies(ctx, ctl, &r)
	d := newDiscovery(c, ctl, nat, rtt, &r)
	if nat.mapping == MappingUnknown {
		d.untested(TestMapping, "fewer than two of the server's STUN sockets answered")
	}
	for _, t := range []struct {
		name Test
		run  func(context.Context)
	}{{TestFiltering, d.findFiltering}, {TestHairpinning, d.findHairpinning}, {TestPathMTU, d.findPathMTU}} {
		if !opts.wants(t.name) {
			d.untested(t.name, "it was not asked for")
			continue
		}
		t.run(ctx)
	}
	switch {
	case !opts.wants(TestLifetime):
		d.untested(TestLifetime, "it was not asked for")
	case opts.LifetimeBudget <= 0:
		d.untested(TestLifetime, "it takes minutes; it was given no time")
	default:
		d.findLifetime(ctx, opts.LifetimeBudget)
	}
	if ctx.Err() != nil {
		return NetReport{}, canceled(ctx, op, "")
	}
	nat.filtering = r.Filtering
	c.learnNAT(ctl, nat)
	return r, nil
}

// newDiscovery begins a run of tests, knowing how the NAT maps.
func newDiscovery(c *Client, ctl *control, nat natResult, rtt time.Duration, r *NetReport) *discovery {
	d := &discovery{c: c, nat: nat, rtt: rtt, report: r}
	for i, to := range []*netip.AddrPort{&d.main, &d.alternate, &d.other} {
		if nat.mapped[i].IsValid() {
			*to = ctl.stunSockets()[i]
		}
	}
	r.SecondAddress = d.other.IsValid()
	return d
}

// patience is how long to wait for an answer that may never come.
func (d *discovery) patience(least time.Duration) time.Duration { return max(least, 3*d.rtt) }

// stunSockets are the server's STUN sockets: main, another port, another address. Invalid: there is none.
func (ctl *control) stunSockets() (out [3]netip.AddrPort) {
	out[0] = ctl.server
	if port := ctl.hello.GetStunAlternate().GetPort(); port > 0 && port <= 65535 {
		out[1] = netip.AddrPortFrom(ctl.server.Addr(), uint16(port))
	}
	// Another family than the socket's is of no use.
	if a, err := protocol.AddrFromPB(ctl.hello.GetStunOther()); err == nil && a.Addr().Is4() == ctl.server.Addr().Is4() && a.Addr() != ctl.server.Addr() {
		out[2] = a
	}
	return out
}

// learnNAT notes what was found out and tells the server. What is unknown now does not replace what was known.
func (c *Client) learnNAT(ctl *control, r natResult) {
	c.mu.Lock()
	if r.filtering == "" || r.filtering == FilteringUnknown {
		r.filtering = c.nat.filtering
	}
	c.nat = r
	c.mu.Unlock()
	ctl.send(&pb.ClientMessage{Body: &pb.ClientMessage_NatReport{NatReport: &pb.NatReport{
		Mapping: r.mapping.pb(), PortPreserved: r.kept, Filtering: r.filtering.pb(), PortsInSequence: r.sequence}}})
}
