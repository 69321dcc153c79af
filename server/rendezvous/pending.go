package rendezvous

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"

	"github.com/quic-go/quic-go"
	"golang.org/x/time/rate"
)

var errPendingLimit = errors.New("too many connections that are not signed in")

// pending counts the connections that are not signed in, in all and by source.
// It is the only state that a stranger can make the server keep. Safe for concurrent use.
type pending struct {
	max, maxPerSource int
	metrics           *metrics
	handshakes        *rate.Limiter

	mu       sync.Mutex
	total    int
	bySource map[netip.Prefix]int
}

func newPending(l Limits, m *metrics) *pending {
	return &pending{
		max: l.MaxPending, maxPerSource: l.MaxPendingPerSource, metrics: m,
		handshakes: rate.NewLimiter(rate.Limit(l.HandshakesPerSecond), l.HandshakesPerSecond),
		bySource:   map[netip.Prefix]int{},
	}
}

// slot is one connection's place among the pending; release gives it back and may be called again.
type slot struct {
	p    *pending
	from netip.Prefix
	once sync.Once
}

type slotKey struct{}

// verifySource is quic.Transport's VerifySourceAddress: true asks for a Retry.
// Who forges sources can thus take a quarter of the places at most, in all and
// of those of the source that it pretends to be.
func (p *pending) verifySource(from net.Addr) bool {
	source := sourceOf(addrPortOf(from).Addr())
	p.mu.Lock()
	crowded := p.total >= p.max/4 || p.bySource[source] >= p.maxPerSource/4
	p.mu.Unlock()
	if !p.handshakes.Allow() || crowded {
		p.metrics.retries.Inc()
		return true
	}
	return false
}

// connContext is quic.Transport's ConnContext: it takes a slot for a new connection or refuses it.
func (p *pending) connContext(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	s := &slot{p: p, from: sourceOf(addrPortOf(info.RemoteAddr).Addr())}
	p.mu.Lock()
	full := p.total >= p.max || p.bySource[s.from] >= p.maxPerSource
	if !full {
		p.total++
		p.bySource[s.from]++
	}
	p.mu.Unlock()
	if full {
		p.metrics.drops.WithLabelValues(dropPending).Inc()
		return nil, errPendingLimit
	}
	p.metrics.pending.Inc()
	context.AfterFunc(ctx, s.release) // a handshake that fails has no other end
	return context.WithValue(ctx, slotKey{}, s), nil
}

func (s *slot) release() {
	s.once.Do(func() {
		s.p.metrics.pending.Dec()
		s.p.mu.Lock()
		defer s.p.mu.Unlock()
		s.p.total--
		if s.p.bySource[s.from]--; s.p.bySource[s.from] <= 0 {
			delete(s.p.bySource, s.from)
		}
	})
}

// slotOf finds the slot that connContext took.
func slotOf(c *quic.Conn) *slot {
	s, _ := c.Context().Value(slotKey{}).(*slot)
	return s
}
