package natlab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
)

// maxLabs is how many labs can exist in one namespace at a time: as many
// subnets of subnetBits as 198.18.0.0/15 has (RFC 2544's benchmarking range).
const (
	maxLabs    = 32
	subnetBits = 20
)

// ErrClosed is returned by methods of a closed [Lab] or [Host].
var ErrClosed = errors.New("natlab: closed")

// Config is a lab's configuration. The zero value is usable.
type Config struct {
	// Seed feeds the random choices of all links (loss, jitter, reordering), so that a
	// run can be repeated. Zero draws a seed; [Lab.Seed] tells which.
	Seed uint64
}

// Lab is a core network with hosts and sites. Its methods may be called from several
// goroutines at once.
type Lab struct {
	seed    uint64
	prefix  netip.Prefix
	gateway netip.Addr // the core's own address
	number  uint32     // of its subnet
	noIPv6  error      // nil: there is IPv6
	core    *namespace
	self    *Host
	spawner *spawner

	public  *pool
	private *pool // the sites' numbers

	forwarding sync.Mutex
	forwarder  *forwarder // nil before a link needs it

	mu     sync.Mutex
	closed bool
	hosts  map[*Host]struct{}
	sites  map[*Site]struct{}
}

// New makes a lab in the namespace that [Enter] made. The error wraps
// [ErrUnavailable] where Enter failed or was not called. Close it after use.
func New(cfg Config) (*Lab, error) {
	home, err := currentNamespace()
	if err != nil {
		return nil, err
	}
	if err := entered(home.id); err != nil {
		home.close()
		return nil, err
	}
	l := &Lab{
		seed: cfg.Seed, private: newPool(netip.MustParsePrefix("10.0.0.0/8"), 24),
		hosts: make(map[*Host]struct{}), sites: make(map[*Site]struct{}),
	}
	for l.seed == 0 {
		l.seed = rand.Uint64()
	}
	if l.core, err = newNamespace(prepare(true)); err != nil {
		home.close()
		return nil, err
	}
	l.noIPv6 = l.tryIPv6()
	if err := l.attachSelf(home); err != nil {
		l.core.close()
		home.close()
		return nil, err
	}
	l.spawner = startSpawner()
	return l, nil
}

// attachSelf joins the process's namespace to the core. The name of the link there
// serves as the lock on the lab's subnet: two labs never get the same one.
func (l *Lab) attachSelf(home *namespace) error {
	for i := range maxLabs {
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, byte(18 + i>>4), byte(i << 4), 0}), subnetBits)
		addresses := newPool(prefix, 32)
		gateway, _ := addresses.take()
		own, _ := addresses.take()
		name := fmt.Sprintf("natlab%d", i)
		inside := end{ns: home, name: name, mac: macFor(own, 0)}
		outside := end{ns: l.core, name: "self", mac: macFor(own, 1)}
		err := wire(inside, own, way{to: prefix, via: gateway, mac: outside.mac},
			outside, way{to: single(own), via: own, mac: inside.mac})
		if errors.Is(err, errNameTaken) {
			continue
		}
		if err == nil {
			err = l.core.inside(func(nl *netlink.Handle) error { return addToLoopback(nl, gateway) })
		}
		l.prefix, l.gateway, l.public, l.number = prefix, gateway, addresses, uint32(i)
		own6, gateway6 := l.public6(own), l.public6(gateway)
		if err == nil && own6.IsValid() {
			err = wire6(inside, own6, []way{{to: l.Prefix6(), via: gateway6, mac: outside.mac}},
				outside, []way{{to: single(own6), via: own6, mac: inside.mac}})
		}
		if err == nil && own6.IsValid() {
			err = l.core.inside(func(nl *netlink.Handle) error { return addToLoopback6(nl, gateway6) })
		}
		if err != nil {
			return err // the link goes with the core
		}
		l.self = &Host{lab: l, name: "self", addr: own, addr6: own6, ns: home, link: name}
		return nil
	}
	return fmt.Errorf("natlab: all %d subnets are in use: close labs that are no longer needed", maxLabs)
}

// Seed is what the links' random choices derive from.
func (l *Lab) Seed() uint64 { return l.seed }

// Prefix holds all public IPv4 addresses of the lab.
func (l *Lab) Prefix() netip.Prefix { return l.prefix }

// Self is the calling process's own namespace: a public host on the core.
// Ordinary net.Dial and net.Listen calls use it. Processes started in it die with the lab.
func (l *Lab) Self() *Host { return l.self }

// AddHost adds a host with a public IPv4 address.
func (l *Lab) AddHost(name string) (*Host, error) { return l.AddHostWith(name, IPv4Only) }

// AddHostWith adds a host with public addresses. IPv6 needs [Lab.IPv6].
func (l *Lab) AddHostWith(name string, f Families) (*Host, error) {
	err := f.validate()
	if err == nil && f.has6() {
		err = l.noIPv6
	}
	var addr netip.Addr
	if err == nil {
		addr, err = l.takePublic()
	}
	if err != nil {
		return nil, fmt.Errorf("natlab: add host %s: %w", name, err)
	}
	h := &Host{lab: l, name: name, addr: addr, families: f, link: coreLink(addr), peer: l.core, pool: l.public}
	gateway6 := netip.Addr{}
	if f.has6() {
		h.addr6, gateway6 = l.public6(addr), l.public6(l.gateway)
	}
	if err := h.build(l.gateway, gateway6); err != nil {
		l.public.release(addr)
		return nil, fmt.Errorf("natlab: add host %s: %w", name, err)
	}
	return l.keepHost(h)
}

// takePublic draws a public address, if the lab is open.
func (l *Lab) takePublic() (netip.Addr, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return netip.Addr{}, ErrClosed
	}
	return l.public.take()
}

// keepHost notes a host for Close.
func (l *Lab) keepHost(h *Host) (*Host, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		h.ns.close()
		return nil, fmt.Errorf("natlab: add host %s: %w", h.name, ErrClosed)
	}
	l.hosts[h] = struct{}{}
	return h, nil
}

// Close kills the processes in the lab's hosts and removes the lab. Sockets that are still
// open in its hosts go dead, but stay the caller's to close. Further calls do nothing.
func (l *Lab) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()

	l.spawner.stop()
	ids := make(map[string]bool)
	for h := range l.hosts {
		ids[h.ns.id] = true
	}
	errs := []error{killInside(ids)}
	for h := range l.hosts {
		h.shut()
	}
	for s := range l.sites {
		s.shut()
	}
	l.forwarding.Lock()
	if l.forwarder != nil {
		l.forwarder.reap()
	}
	l.forwarding.Unlock()
	errs = append(errs, deleteLink(l.self.ns, l.self.link))
	l.self.shut()
	l.core.close()
	return errors.Join(errs...)
}

// coreLink names the core's end of the link to a public address.
func coreLink(a netip.Addr) string {
	b := a.As4()
	return fmt.Sprintf("c%d-%d", int(b[1])<<8|int(b[2]), b[3])
}

func addToLoopback(nl *netlink.Handle, a netip.Addr) error {
	lo, err := nl.LinkByName("lo")
	if err == nil {
		err = nl.AddrAdd(lo, &netlink.Addr{IPNet: ipNet(single(a))})
	}
	if err != nil {
		return fmt.Errorf("natlab: add %s to the loopback: %w", a, err)
	}
	return nil
}

// deleteLink removes a link, and with it its other end.
func deleteLink(ns *namespace, name string) error {
	return ns.inside(func(nl *netlink.Handle) error {
		link, err := nl.LinkByName(name)
		if err == nil {
			err = nl.LinkDel(link)
		}
		if err != nil {
			return fmt.Errorf("natlab: remove link %s: %w", name, err)
		}
		return nil
	})
}
