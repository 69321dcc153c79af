package rendezvous

import (
	"net"
	"net/netip"
	"sync"

	"golang.org/x/time/rate"
)

// sourceOf is what counts as one source: an IPv4 address, or a /64 in IPv6, all of which one host may use.
func sourceOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // fails only for the invalid address, whose prefix is the zero value: one source
	return p
}

// addrPortOf translates the address of a socket; the zero value if it is none.
func addrPortOf(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		ap = a.AddrPort()
	case *net.TCPAddr:
		ap = a.AddrPort()
	default:
		if a != nil {
			ap, _ = netip.ParseAddrPort(a.String())
		}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// sourceRates bounds a rate in all and per source. It remembers at most twice
// max sources: when the young generation is full it becomes the old one, and the
// old one is forgotten. Who is forgotten begins anew; the bound in all still
// holds, so that forged sources gain nothing. Safe for concurrent use.
type sourceRates struct {
	all       *rate.Limiter
	perSource rate.Limit
	burst     int
	max       int

	mu         sync.Mutex
	young, old map[netip.Prefix]*rate.Limiter
}

func newSourceRates(perSecond, perSource, maxSources int) *sourceRates {
	return &sourceRates{
		all:       rate.NewLimiter(rate.Limit(perSecond), perSecond),
		perSource: rate.Limit(perSource), burst: 4 * perSource,
		max:   maxSources,
		young: map[netip.Prefix]*rate.Limiter{},
	}
}

// allow tells whether one more event of a source is within the rates.
func (s *sourceRates) allow(a netip.Addr) bool {
	return s.limiter(sourceOf(a)).Allow() && s.all.Allow()
}

func (s *sourceRates) limiter(p netip.Prefix) *rate.Limiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.young[p]; l != nil {
		return l
	}
	l := s.old[p]
	if l == nil {
		l = rate.NewLimiter(s.perSource, s.burst)
	}
	if len(s.young) >= s.max {
		s.old, s.young = s.young, make(map[netip.Prefix]*rate.Limiter)
	}
	s.young[p] = l
	return l
}

// size is how many sources are remembered.
func (s *sourceRates) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.young) + len(s.old)
}
