package rendezvous

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/bradawl/bradawl/protocol"
)

// drainReconnect is when clients may come back after a Drain: at once would meet the same server.
const drainReconnect = time.Second

// registry finds groups. Its lock is held at sign-in and when a peer leaves, never for what happens inside a group.
type registry struct {
	rules *rules
	log   *zap.Logger

	mu       sync.Mutex
	groups   map[string]*group
	peers    int
	draining bool
	running  sync.WaitGroup // the groups' goroutines
}

func newRegistry(r *rules, log *zap.Logger) *registry {
	return &registry{rules: r, log: log, groups: map[string]*group{}}
}

// enter adds a peer to a group, which it makes if need be. The error is a *refusal.
func (r *registry) enter(name string, m *member, now time.Time) (*group, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.groups[name]
	switch {
	case r.draining:
		return nil, &refusal{protocol.ReasonLimited, "the server is going away", drainReconnect}
	case r.peers >= r.rules.limits.MaxPeers:
		return nil, &refusal{protocol.ReasonLimited, "the server is full", time.Second}
	case g == nil && len(r.groups) >= r.rules.limits.MaxGroups:
		return nil, &refusal{protocol.ReasonLimited, "the server has no room for another group", time.Second}
	}
	fresh := g == nil
	if fresh {
		g = newGroup(name, r.rules, r.log)
	}
	if err := g.enter(m, now); err != nil {
		return nil, err
	}
	if fresh {
		r.groups[name] = g
		r.running.Go(g.run)
		r.rules.metrics.groups.Inc()
	}
	r.peers++
	r.rules.metrics.peers.Inc()
	return g, nil
}

// exit removes a peer, and its group if nobody is left.
func (r *registry) exit(g *group, m *member, now time.Time) {
	g.exit(m, now)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.peers--
	r.rules.metrics.peers.Dec()
	if r.groups[g.name] == g && g.empty() {
		delete(r.groups, g.name)
		close(g.stop)
		r.rules.metrics.groups.Dec()
	}
}

// drain refuses new peers and tells those that are there to go.
func (r *registry) drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
	for _, g := range r.groups {
		g.drain(drainReconnect)
	}
}

// unfinished counts the sessions that have not ended.
func (r *registry) unfinished() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.groups {
		n += g.unfinished()
	}
	return n
}
