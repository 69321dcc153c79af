package natlab

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
)

// errNoAddress says that a pool is empty.
var errNoAddress = errors.New("no free address: close hosts or sites that are no longer needed")

// pool hands out the subnets of one size of an IPv4 prefix, in turn, so
// that an address is not reused soon. The first of all is the network address
// and never handed out.
type pool struct {
	prefix netip.Prefix
	shift  uint32
	count  uint32

	mu   sync.Mutex
	next uint32
	used map[uint32]bool
}

func newPool(prefix netip.Prefix, bits int) *pool {
	return &pool{
		prefix: prefix, shift: uint32(32 - bits), count: 1 << (bits - prefix.Bits()),
		used: map[uint32]bool{0: true},
	}
}

// take returns the first address of a free subnet.
func (p *pool) take() (netip.Addr, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range p.count {
		n := p.next
		p.next = (p.next + 1) % p.count
		if !p.used[n] {
			p.used[n] = true
			return p.address(n), nil
		}
	}
	return netip.Addr{}, errNoAddress
}

// release makes the subnet of an address free again.
func (p *pool) release(a netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.used, (number(a)-number(p.prefix.Addr()))>>p.shift)
}

func (p *pool) address(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], number(p.prefix.Addr())+n<<p.shift)
	return netip.AddrFrom4(b)
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}
