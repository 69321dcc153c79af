package natlab

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// SiteConfig describes a site. The zero value has the NAT of the zero [NAT]
// and a plain link.
type SiteConfig struct {
	// Name stands in error messages.
	Name string
	NAT  NAT
	// Families is what the hosts have. IPv6 is routed to them, without a NAT: from outside comes in what they have asked
	// for, as at homes and in the cloud (RFC 6092). It needs [Lab.IPv6].
	Families Families
	// OpenIPv6 lets all of IPv6 in instead.
	OpenIPv6 bool
	// Link is the site's way to the core.
	Link Link
	// Private is the IPv4 prefix of the hosts, at most a /30. The zero value takes a /24
	// of 10.0.0.0/8 that no other site of the lab has. Sites may share a prefix, as homes do.
	Private netip.Prefix
}

// Site is a router with a NAT and the hosts behind it. Its methods may be called from
// several goroutines at once.
type Site struct {
	lab     *Lab
	config  SiteConfig
	public  netip.Addr
	gateway netip.Addr // the router's private address
	pool    *pool      // private addresses
	drawn   bool       // the private prefix is one of the lab's
	link    *uplink

	mu     sync.RWMutex // held for reading while the router is in use
	router *namespace
	cut4   bool
	cut6   bool
	closed bool
	count  int // hosts so far, to name links
}

// uplinkName is the router's end of its link to the core.
const uplinkName = "up0"

// AddSite adds a router with a NAT. Hosts come with [Site.AddHost].
func (l *Lab) AddSite(cfg SiteConfig) (*Site, error) {
	s, err := l.addSite(cfg)
	if err != nil {
		return nil, fmt.Errorf("natlab: add site %s: %w", cfg.Name, err)
	}
	return s, nil
}

func (l *Lab) addSite(cfg SiteConfig) (_ *Site, err error) {
	if err := errors.Join(cfg.NAT.validate(), cfg.Link.validate(), cfg.Families.validate()); err != nil {
		return nil, err
	}
	if cfg.Families.has6() && l.noIPv6 != nil {
		return nil, l.noIPv6
	}
	s := &Site{lab: l, config: cfg}
	if !cfg.Private.IsValid() {
		net, err := l.private.take()
		if err != nil {
			return nil, err
		}
		s.config.Private, s.drawn = netip.PrefixFrom(net, 24), true
	}
	defer func() {
		if err == nil {
			return
		}
		if s.router != nil {
			s.shut()
		}
		s.releaseAddresses()
	}()
	if p := s.config.Private; !p.Addr().Is4() || p.Bits() > 30 {
		return nil, fmt.Errorf("private prefix %s: want IPv4, /30 or shorter", p)
	}
	s.config.Private = s.config.Private.Masked()
	s.pool = newPool(s.config.Private, 32)
	if s.gateway, err = s.pool.take(); err != nil {
		return nil, err
	}
	if s.public, err = l.takePublic(); err != nil {
		return nil, err
	}
	s.router, err = newNamespace(func() error {
		if err := prepare(true)(); err != nil {
			return err
		}
		if err := s.setTimeouts(); err != nil {
			return err
		}
		if err := s.installRules(); err != nil || !cfg.Families.has6() {
			return err
		}
		if err := setSysctl("ipv6/conf/all/forwarding", "1"); err != nil {
			return err
		}
		return installFirewall(firewall{open: cfg.OpenIPv6, udpBlocked: cfg.NAT.UDPBlocked})
	})
	if err != nil {
		return nil, err
	}
	if s.link, err = l.connect(s); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	l.sites[s] = struct{}{}
	return s, nil
}

// setTimeouts sets how long conntrack remembers UDP flows in this namespace.
func (s *Site) setTimeouts() error {
	if s.config.NAT.MappingTimeout == 0 {
		return nil
	}
	seconds := fmt.Sprint(int64((s.config.NAT.MappingTimeout + time.Second - 1) / time.Second))
	return errors.Join(
		setSysctl("netfilter/nf_conntrack_udp_timeout", seconds),
		setSysctl("netfilter/nf_conntrack_udp_timeout_stream", seconds))
}

// Name is the name given when the site was added.
func (s *Site) Name() string { return s.config.Name }

// NAT is what the site was asked to do.
func (s *Site) NAT() NAT { return s.config.NAT }

// PublicAddr is the NAT's address on the core.
func (s *Site) PublicAddr() netip.Addr { return s.public }

// AddHost adds a host behind the NAT.
func (s *Site) AddHost(name string) (*Host, error) {
	fail := func(err error) (*Host, error) {
		return nil, fmt.Errorf("natlab: add host %s at site %s: %w", name, s.config.Name, err)
	}
	addr, err := s.pool.take()
	if err != nil {
		return fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fail(ErrClosed)
	}
	s.count++
	h := &Host{
		lab: s.lab, site: s, name: name, addr: addr,
		link: fmt.Sprintf("lan%d", s.count), peer: s.router, pool: s.pool,
	}
	h.families = s.config.Families
	gateway6 := netip.Addr{}
	if h.families.has6() {
		h.addr6, gateway6 = s.inside6(addr), s.inside6(s.gateway)
	}
	if err := h.build(s.gateway, gateway6); err != nil {
		s.pool.release(addr)
		return fail(err)
	}
	return s.lab.keepHost(h)
}

// inRouter runs fn in the router's namespace.
func (s *Site) inRouter(fn func() error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return ErrClosed
	}
	return s.router.do(fn)
}

// FlushMappings makes the NAT forget all mappings and flows, as a reboot would.
func (s *Site) FlushMappings() error {
	err := s.inRouter(func() error {
		nl, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		defer nl.Close()
		// A packet between the two steps would bring the mapping back from the one that is not empty yet.
		if err := setHoldRules(true); err != nil {
			return err
		}
		return errors.Join(nl.ConntrackTableFlush(netlink.ConntrackTable), s.flushSets(), setHoldRules(false))
	})
	if err != nil {
		return fmt.Errorf("natlab: flush mappings of site %s: %w", s.config.Name, err)
	}
	return nil
}

// CutUplink makes the site's uplink swallow all packets, both ways. Mappings stay and age.
// Cutting a cut uplink does nothing.
func (s *Site) CutUplink() error { return s.setCut(true, true, true) }

// HealUplink undoes CutUplink and CutIPv6.
func (s *Site) HealUplink() error { return s.setCut(false, true, true) }

// CutIPv6 makes the site's uplink swallow all IPv6 packets, both ways, and no others.
func (s *Site) CutIPv6() error { return s.setCut(true, false, true) }

// HealIPv6 undoes CutIPv6.
func (s *Site) HealIPv6() error { return s.setCut(false, false, true) }

func (s *Site) setCut(cut, v4, v6 bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("natlab: uplink of site %s: %w", s.config.Name, ErrClosed)
	}
	for _, f := range []struct {
		family nftables.TableFamily
		meant  bool
		cut    *bool
	}{{nftables.TableFamilyIPv4, v4, &s.cut4}, {nftables.TableFamilyIPv6, v6 && s.config.Families.has6(), &s.cut6}} {
		if !f.meant || *f.cut == cut {
			continue
		}
		if err := s.router.do(func() error { return setCutRules(f.family, cut) }); err != nil {
			return fmt.Errorf("natlab: uplink of site %s: %w", s.config.Name, err)
		}
		*f.cut = cut
	}
	return nil
}

// Counters are what a site's router has counted.
type Counters struct {
	// UnsolicitedPackets came from outside and belonged to no mapping that lets them
	// in. The router dropped them if its NAT has DropUnsolicited. IPv6 packets that the firewall kept out count too.
	UnsolicitedPackets uint64
	// BlockedPackets are UDP packets that UDPBlocked dropped.
	BlockedPackets uint64
}

// Counters returns the router's counts so far.
func (s *Site) Counters() (Counters, error) {
	var c Counters
	err := s.inRouter(func() (err error) {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		tables := []*nftables.Table{natTable()}
		if s.config.Families.has6() {
			tables = append(tables, firewallTable())
		}
		for _, table := range tables {
			unsolicited, err := readCounter(conn, table, unsolicitedCounter)
			if err != nil {
				return err
			}
			blocked, err := readCounter(conn, table, blockedCounter)
			if err != nil {
				return err
			}
			c.UnsolicitedPackets += unsolicited
			c.BlockedPackets += blocked
		}
		return nil
	})
	if err != nil {
		return Counters{}, fmt.Errorf("natlab: read counters of site %s: %w", s.config.Name, err)
	}
	return c, nil
}

// SetLink changes delay, jitter, loss and reordering from now on; [Link.MTU] stays as it is. The
// site must have been added with one of them set: other links have no forwarder.
func (s *Site) SetLink(link Link) error {
	err := link.validate()
	if err == nil {
		err = s.link.reshape(link)
	}
	if err != nil {
		return fmt.Errorf("natlab: set link of site %s: %w", s.config.Name, err)
	}
	return nil
}

// LinkStats returns what the lab's forwarder did on the site's link.
func (s *Site) LinkStats() (LinkStats, error) {
	stats, err := s.link.stats()
	if err != nil {
		return stats, fmt.Errorf("natlab: link of site %s: %w", s.config.Name, err)
	}
	return stats, nil
}

// Close removes the site and its hosts. Further calls do nothing.
func (s *Site) Close() error {
	s.lab.mu.Lock()
	if _, open := s.lab.sites[s]; !open || s.lab.closed {
		s.lab.mu.Unlock()
		return nil
	}
	delete(s.lab.sites, s)
	var hosts []*Host
	for h := range s.lab.hosts {
		if h.site == s {
			hosts = append(hosts, h)
		}
	}
	s.lab.mu.Unlock()
	var errs []error
	for _, h := range hosts {
		errs = append(errs, h.Close())
	}
	errs = append(errs, s.link.remove())
	s.shut()
	s.releaseAddresses()
	return errors.Join(errs...)
}

// releaseAddresses gives back what the site took of the lab's addresses.
func (s *Site) releaseAddresses() {
	if s.public.IsValid() {
		s.lab.public.release(s.public)
	}
	if s.drawn {
		s.lab.private.release(s.config.Private.Addr())
	}
}

func (s *Site) shut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.router.close()
	}
}
