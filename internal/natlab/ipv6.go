package natlab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Families is which versions of IP the hosts of a place have.
type Families uint8

const (
	// IPv4Only is IPv4 alone.
	IPv4Only Families = iota
	// DualStack is both.
	DualStack
	// IPv6Only is IPv6 alone.
	IPv6Only
)

// String returns a short name.
func (f Families) String() string {
	switch f {
	case IPv4Only:
		return "IPv4 only"
	case DualStack:
		return "dual stack"
	case IPv6Only:
		return "IPv6 only"
	}
	return fmt.Sprintf("unknown families (%d)", uint8(f))
}

func (f Families) has6() bool { return f == DualStack || f == IPv6Only }

func (f Families) validate() error {
	if f > IPv6Only {
		return fmt.Errorf("natlab: %s", f)
	}
	return nil
}

// ErrNoIPv6 says that the kernel has no IPv6, or not all of it that a lab needs. Errors that wrap it tell what is missing.
var ErrNoIPv6 = errors.New("natlab: IPv6 is unavailable")

// IPv6 tells whether the lab has IPv6: nil, or an error that wraps [ErrNoIPv6] and says why not.
func (l *Lab) IPv6() error { return l.noIPv6 }

// RequireIPv6 skips the test, with the reason, where the lab has no IPv6. It does so with BRADAWL_REQUIRE_NATLAB=1 too:
// there are machines that make labs, and whose kernels run without IPv6.
func RequireIPv6(t TB, l *Lab) {
	t.Helper()
	if err := l.IPv6(); err != nil {
		t.Skipf("%v", err)
	}
}

// tryIPv6 makes the core forward IPv6, and finds out in a namespace that it throws away whether the kernel has what a
// site's firewall needs.
func (l *Lab) tryIPv6() error {
	if err := l.core.do(func() error { return setSysctl("ipv6/conf/all/forwarding", "1") }); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%w: the kernel runs without it", ErrNoIPv6)
		}
		return fmt.Errorf("%w: %w", ErrNoIPv6, err)
	}
	trial, err := newNamespace(func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open a socket: %w", err)
		}
		_ = unix.Close(fd)
		if err := installFirewall(firewall{}); err != nil {
			return fmt.Errorf("load a firewall into nftables: %w", err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoIPv6, err)
	}
	trial.close()
	return nil
}

// The IPv6 addresses of a lab follow from the IPv4 ones, so that nothing new has to be handed out:
//
//	2001:db8:LAB:0::N        public host or router whose IPv4 address is number N of the lab's prefix (RFC 3849)
//	2001:db8:LAB:N::/64      the site of router N
//	2001:db8:LAB:N::K        its host whose IPv4 address is number K of the private prefix
func address6(lab, subnet, host uint32) netip.Addr {
	b := [16]byte{0x20, 0x01, 0x0d, 0xb8}
	binary.BigEndian.PutUint16(b[4:], uint16(lab))
	binary.BigEndian.PutUint16(b[6:], uint16(subnet))
	binary.BigEndian.PutUint32(b[12:], host)
	return netip.AddrFrom16(b)
}

// public6 is the IPv6 address of a public host or a router; invalid without IPv6.
func (l *Lab) public6(public netip.Addr) netip.Addr {
	if l.noIPv6 != nil {
		return netip.Addr{}
	}
	return address6(l.number, 0, number(public)-number(l.prefix.Addr()))
}

// Prefix6 holds all IPv6 addresses of the lab, those behind its sites included; invalid if it has no IPv6.
func (l *Lab) Prefix6() netip.Prefix {
	if l.noIPv6 != nil {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(address6(l.number, 0, 0), 48)
}

// inside6 is the IPv6 address of a host behind the site's router.
func (s *Site) inside6(private netip.Addr) netip.Addr {
	subnet := number(s.public) - number(s.lab.prefix.Addr())
	return address6(s.lab.number, subnet, number(private)-number(s.config.Private.Addr()))
}

// Prefix6 is the IPv6 prefix that is routed to the site, a /64; invalid if it has none.
func (s *Site) Prefix6() netip.Prefix {
	if !s.config.Families.has6() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(s.inside6(s.gateway), 64).Masked()
}

// wire6 gives IPv6 to a link whose ends are joined and up. The ways of each end go through the other one.
func wire6(near end, own netip.Addr, out []way, far end, in []way) error {
	err := near.ns.inside(func(nl *netlink.Handle) error { return attach6(nl, near, own, out) })
	if err == nil {
		err = far.ns.inside(func(nl *netlink.Handle) error { return attach6(nl, far, netip.Addr{}, in) })
	}
	return err
}

// attach6 switches IPv6 on at a link, without anything that the kernel would do by itself, and adds address and ways.
func attach6(nl *netlink.Handle, e end, own netip.Addr, ways []way) error {
	link, err := nl.LinkByName(e.name)
	if err != nil {
		return fmt.Errorf("natlab: find link %s: %w", e.name, err)
	}
	for _, s := range [][2]string{{"addr_gen_mode", "1"}, {"accept_ra", "0"}, {"accept_dad", "0"}, {"disable_ipv6", "0"}} {
		if err := setSysctl("ipv6/conf/"+strings.ReplaceAll(e.name, "/", ".")+"/"+s[0], s[1]); err != nil {
			return err
		}
	}
	if own.IsValid() {
		if err := nl.AddrAdd(link, &netlink.Addr{IPNet: ipNet(single(own)), Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("natlab: add %s to %s: %w", own, e.name, err)
		}
	}
	for _, w := range ways {
		if err := addWay(nl, link.Attrs().Index, e.name, w); err != nil {
			return err
		}
	}
	if own.IsValid() {
		return awaitLocal(nl, own)
	}
	return nil
}

// awaitLocal waits until the kernel takes packets to an address of its own. A work queue makes it do so, after the
// address was added; until then they are lost.
func awaitLocal(nl *netlink.Handle, own netip.Addr) error {
	filter := &netlink.Route{Table: unix.RT_TABLE_LOCAL, Dst: ipNet(single(own))}
	const patience = 5 * time.Second
	for began := time.Now(); time.Since(began) < patience; time.Sleep(100 * time.Microsecond) {
		routes, err := nl.RouteListFiltered(netlink.FAMILY_V6, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
		if err != nil {
			return fmt.Errorf("natlab: list the routes to %s: %w", own, err)
		}
		if len(routes) > 0 {
			return nil
		}
	}
	return fmt.Errorf("natlab: the kernel did not take %s into use within %v", own, patience)
}

// default6 is all of IPv6.
func default6() netip.Prefix { return netip.PrefixFrom(netip.IPv6Unspecified(), 0) }

// join6 routes the site's prefix to its router, and from there nowhere but to hosts that exist.
func (s *Site) join6(near, far end) error {
	own, core := s.lab.public6(s.public), s.lab.public6(s.lab.gateway)
	err := wire6(near, own, []way{{to: default6(), via: core, mac: far.mac}},
		far, []way{{to: single(own), via: own, mac: near.mac}, {to: s.Prefix6(), via: own, mac: near.mac}})
	if err != nil {
		return err
	}
	return s.router.inside(func(nl *netlink.Handle) error {
		if err := addToLoopback6(nl, s.inside6(s.gateway)); err != nil {
			return err
		}
		route := &netlink.Route{Dst: ipNet(s.Prefix6()), Type: unix.RTN_UNREACHABLE}
		if err := nl.RouteAdd(route); err != nil {
			return fmt.Errorf("natlab: make the rest of %s unreachable: %w", s.Prefix6(), err)
		}
		return nil
	})
}

func addToLoopback6(nl *netlink.Handle, a netip.Addr) error {
	err := addToLoopback(nl, a)
	if err == nil {
		err = awaitLocal(nl, a)
	}
	return err
}

// firewall is what a site's router does to IPv6.
type firewall struct {
	open       bool
	udpBlocked bool
}

func firewallTable() *nftables.Table {
	return &nftables.Table{Name: "natlab", Family: nftables.TableFamilyIPv6}
}

// installFirewall loads the rules into the calling thread's namespace. Conntrack's state is what lets packets in:
// filtering is address and port-dependent, as with a NAT of Linux, but addresses stay what they are.
func installFirewall(f firewall) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	r := &ruleset{conn: conn, table: conn.AddTable(firewallTable())}
	for _, name := range []string{unsolicitedCounter, blockedCounter} {
		conn.AddObj(&nftables.CounterObj{Table: r.table, Name: name})
	}
	input := r.chain("input", nftables.ChainTypeFilter, nftables.ChainHookInput, 0)
	r.rule(input, fromUplink(), stateNew(), count(unsolicitedCounter), drop())
	forward := r.chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, 0)
	if f.udpBlocked {
		r.rule(forward, toUplink(), udp(), count(blockedCounter), drop())
		r.rule(forward, fromUplink(), udp(), count(blockedCounter), drop())
	}
	if !f.open {
		r.rule(forward, fromUplink(), stateNew(), count(unsolicitedCounter), drop())
	}
	return conn.Flush()
}
