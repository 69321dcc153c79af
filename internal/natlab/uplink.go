package natlab

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/bradawl/bradawl/internal/natlab/forward"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// uplink is what joins a site to the core.
type uplink struct {
	core *namespace
	name string // the core's end
	seed uint64

	forwarder *forwarder // nil where the kernel forwards
	pair      int        // the forwarder's number for it
}

// connect joins a site's router to the core.
func (l *Lab) connect(s *Site) (*uplink, error) {
	mtu := s.config.Link.MTU
	near := end{ns: s.router, name: uplinkName, mac: macFor(s.public, 0), mtu: mtu}
	far := end{ns: l.core, name: coreLink(s.public), mac: macFor(s.public, 1), mtu: mtu}
	out := way{via: l.gateway, mac: far.mac}
	in := way{to: single(s.public), via: s.public, mac: near.mac}
	u := &uplink{core: l.core, name: far.name, seed: l.seed ^ uint64(number(s.public)-number(l.prefix.Addr()))<<32}
	var err error
	if s.config.Link.forwarded() {
		err = u.wireForwarded(l, s, near, out, far, in)
	} else {
		err = wire(near, s.public, out, far, in)
	}
	if err == nil {
		err = s.router.inside(func(nl *netlink.Handle) error { return addToLoopback(nl, s.gateway) })
	}
	if err == nil && s.config.Families.has6() {
		err = s.join6(near, far)
	}
	if err != nil {
		_ = deleteLink(l.core, far.name) // if it came to be; the router's own links go with it
		return nil, err
	}
	return u, nil
}

// wireForwarded puts the lab's forwarder between the ends. Frames must reach it as they would
// appear on a cable: the ends may leave neither checksums nor segmentation to it.
func (u *uplink) wireForwarded(l *Lab, s *Site, near end, out way, far end, in way) error {
	f, err := l.startForwarder()
	if err != nil {
		return err
	}
	a := end{ns: f.ns, name: "a" + far.name, mac: macFor(s.public, 2), mtu: far.mtu}
	b := end{ns: f.ns, name: "b" + far.name, mac: macFor(s.public, 3), mtu: near.mtu}
	if err := wireToForwarder(b, near, func(nl *netlink.Handle) error { return attach(nl, near, s.public, out) }); err != nil {
		return err
	}
	if err := wireToForwarder(a, far, func(nl *netlink.Handle) error { return attach(nl, far, netip.Addr{}, in) }); err != nil {
		return err
	}
	mtu := near.mtu
	if mtu == 0 {
		mtu = defaultMTU
	}
	u.forwarder = f
	u.pair, err = f.client.Add(b.name, a.name, mtu, s.config.Link.shape(u.seed))
	if err != nil {
		return fmt.Errorf("natlab: %w", err)
	}
	return nil
}

// wireToForwarder makes the pair of a forwarder's link and another end, which attach brings up.
func wireToForwarder(mid, other end, attach func(*netlink.Handle) error) error {
	if err := joinEnds(mid, other); err != nil {
		return err
	}
	err := mid.ns.inside(func(nl *netlink.Handle) error {
		link, err := nl.LinkByName(mid.name)
		if err == nil {
			err = nl.LinkSetUp(link)
		}
		if err != nil {
			return fmt.Errorf("natlab: bring up %s: %w", mid.name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = other.ns.inside(func(nl *netlink.Handle) error {
		for _, command := range []uint32{unix.ETHTOOL_STXCSUM, unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO} {
			if _, err := ethtool(other.name, command, 0); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
				return err
			}
		}
		return attach(nl)
	})
	if err != nil {
		return err
	}
	return mid.ns.do(func() error { return settle(mid.name) })
}

// reshape changes a forwarded link.
func (u *uplink) reshape(link Link) error {
	if u.forwarder == nil {
		return errors.New("the kernel forwards on this link: set a delay, jitter, loss or reordering when adding the site")
	}
	return u.forwarder.client.Reshape(u.pair, link.shape(u.seed))
}

func (u *uplink) stats() (LinkStats, error) {
	if u.forwarder == nil {
		return LinkStats{}, nil
	}
	up, down, err := u.forwarder.client.Stats(u.pair)
	return LinkStats{Up: up, Down: down}, err
}

func (u *uplink) remove() error {
	if u.forwarder == nil {
		return deleteLink(u.core, u.name)
	}
	return errors.Join(
		u.forwarder.client.Remove(u.pair),
		deleteLink(u.core, u.name),
		deleteLink(u.forwarder.ns, "b"+u.name))
}

// LinkStats counts the packets that a lab's forwarder carried for a site. All are zero where the
// kernel forwards.
type LinkStats struct {
	Up, Down forward.Stats // from the site to the core, and back
}
