package natlab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// end is one side of a veth pair.
type end struct {
	ns   *namespace
	name string
	mac  net.HardwareAddr
	mtu  int // 0: the kernel's 1500
}

// errNameTaken says that a namespace has a link of that name already.
var errNameTaken = errors.New("the name is taken")

// joinEnds makes a veth pair between two namespaces. Both ends are still down.
func joinEnds(a, b end) error {
	veth := netlink.NewVeth(netlink.NewLinkAttrs())
	veth.Name, veth.HardwareAddr, veth.MTU = a.name, a.mac, a.mtu
	veth.Namespace = netlink.NsFd(a.ns.fd())
	veth.PeerName, veth.PeerHardwareAddr, veth.PeerMTU = b.name, b.mac, uint32(b.mtu)
	veth.PeerNamespace = netlink.NsFd(b.ns.fd())
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("natlab: open netlink: %w", err)
	}
	defer nl.Close()
	switch err := nl.LinkAdd(veth); {
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("natlab: make veth pair %s and %s: %w", a.name, b.name, errNameTaken)
	case err != nil:
		return fmt.Errorf("natlab: make veth pair %s and %s: %w", a.name, b.name, err)
	}
	return nil
}

// way is a route over one end of a link: to a destination, through the neighbour
// whose hardware address is fixed.
type way struct {
	to  netip.Prefix // the zero value is IPv4's default route
	via netip.Addr   // the neighbour; with to being just its address it needs no gateway; invalid: no way at all
	mac net.HardwareAddr
}

// wire brings up a veth pair: first the near end, which has an address of its own, then the
// far one, which has not.
func wire(near end, own netip.Addr, out way, far end, in way) error {
	if err := joinEnds(near, far); err != nil {
		return err
	}
	err := near.ns.inside(func(nl *netlink.Handle) error { return attach(nl, near, own, out) })
	if err != nil {
		return err
	}
	err = far.ns.inside(func(nl *netlink.Handle) error { return attach(nl, far, netip.Addr{}, in) })
	if err != nil {
		return err
	}
	return near.ns.do(func() error { return settle(near.name) })
}

// attach gives an end its own IPv4 address (none if invalid), brings it up and adds the way.
func attach(nl *netlink.Handle, e end, own netip.Addr, w way) error {
	link, err := nl.LinkByName(e.name)
	if err != nil {
		return fmt.Errorf("natlab: find link %s: %w", e.name, err)
	}
	index := link.Attrs().Index
	if own.IsValid() {
		if err := nl.AddrAdd(link, &netlink.Addr{IPNet: ipNet(single(own))}); err != nil {
			return fmt.Errorf("natlab: add %s to %s: %w", own, e.name, err)
		}
	}
	if err := nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("natlab: bring up %s: %w", e.name, err)
	}
	if !w.via.IsValid() {
		return nil
	}
	return addWay(nl, index, e.name, w)
}

// addWay adds a neighbour and the route through it, in the neighbour's family.
func addWay(nl *netlink.Handle, index int, name string, w way) error {
	family := netlink.FAMILY_V4
	if w.via.Is6() {
		family = netlink.FAMILY_V6
	}
	neigh := &netlink.Neigh{
		LinkIndex: index, Family: family, State: netlink.NUD_PERMANENT,
		IP: w.via.AsSlice(), HardwareAddr: w.mac,
	}
	if err := nl.NeighSet(neigh); err != nil {
		return fmt.Errorf("natlab: add neighbour %s on %s: %w", w.via, name, err)
	}
	route := &netlink.Route{LinkIndex: index, Dst: ipNet(w.to)}
	if w.to == single(w.via) {
		route.Scope = netlink.SCOPE_LINK
	} else {
		route.Gw, route.Flags = w.via.AsSlice(), int(netlink.FLAG_ONLINK)
	}
	if err := nl.RouteAdd(route); err != nil {
		return fmt.Errorf("natlab: add route to %s on %s: %w", route.Dst, name, err)
	}
	return nil
}

// single is the prefix that holds one address.
func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func ipNet(p netip.Prefix) *net.IPNet {
	if !p.IsValid() {
		return &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	}
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// macFor derives a locally administered hardware address from an IPv4 address, with
// side telling the two ends of its link apart.
func macFor(a netip.Addr, side byte) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x02, side, b[0], b[1], b[2], b[3]}
}
