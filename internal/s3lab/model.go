package s3lab

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Model makes the server answer as S3 answers a function: late, with limits of
// requests per prefix, and with the function's own limit of bandwidth. Each part
// is off while it is zero.
type Model struct {
	// Seed makes the latencies the same from run to run.
	Seed uint64 `json:"seed"`
	// Put is the latency of what writes or lists (PUT, POST, LIST), Get that of what
	// reads (GET, HEAD) and deletes: from the request to the first byte of the answer.
	Put Latency `json:"put"`
	Get Latency `json:"get"`
	// PutRate and GetRate are requests per second that one prefix takes, with a burst of
	// one second's worth. More are answered 503 SlowDown.
	PutRate float64 `json:"put_rate"`
	GetRate float64 `json:"get_rate"`
	// PrefixDepth is how many elements of a key, after the bucket, are its prefix. 0
	// takes the whole bucket for one, as S3 does before it has split it up.
	PrefixDepth int `json:"prefix_depth"`
	// Bandwidth is what each client address gets, both directions together.
	Bandwidth Bandwidth `json:"bandwidth"`
}

// Latency is a log-normal distribution by two of its percentiles.
type Latency struct {
	P50 time.Duration `json:"p50_ns"`
	P99 time.Duration `json:"p99_ns"`
}

// Bandwidth is a token bucket: Burst bytes at Peak bytes per second, refilled at
// Sustained bytes per second.
type Bandwidth struct {
	Burst     int64   `json:"burst"`
	Peak      float64 `json:"peak"`
	Sustained float64 `json:"sustained"`
}

// Published is S3 Standard within a region as it has been published: latencies
// of 1 KB objects from Lambda (Skyrise, 2024: PUT 36-44 ms and 103-134 ms, GET
// 18-41 ms and 82-129 ms in the median and the 99th percentile), AWS's limits per
// prefix, and the bandwidth that was measured on Lambda.
func Published() Model {
	return Model{
		Put:     Latency{P50: 40 * time.Millisecond, P99: 120 * time.Millisecond},
		Get:     Latency{P50: 30 * time.Millisecond, P99: 105 * time.Millisecond},
		PutRate: 3500, GetRate: 5500,
		Bandwidth: Bandwidth{Burst: 310e6, Peak: 1.25e9, Sustained: 78e6},
	}
}

// String describes the model in a line, for what is printed beside figures.
func (m *Model) String() string {
	if m == nil {
		return "off"
	}
	return fmt.Sprintf("on (PUT %v/%v, GET %v/%v in p50/p99; %g PUT/s and %g GET/s per prefix of depth %d; %.0f MB at %.0f MB/s, then %.0f MB/s per client)",
		m.Put.P50, m.Put.P99, m.Get.P50, m.Get.P99, m.PutRate, m.GetRate, m.PrefixDepth,
		float64(m.Bandwidth.Burst)/1e6, m.Bandwidth.Peak/1e6, m.Bandwidth.Sustained/1e6)
}

func (m *Model) check() error {
	if m == nil {
		return nil
	}
	for _, l := range []Latency{m.Put, m.Get} {
		if l.P50 < 0 || l.P99 < l.P50 || l.P50 == 0 && l.P99 > 0 {
			return fmt.Errorf("s3lab: the model's latency of %v in p50 and %v in p99 is none", l.P50, l.P99)
		}
	}
	b := m.Bandwidth
	switch {
	case m.PutRate < 0 || m.GetRate < 0 || m.PrefixDepth < 0:
		return errors.New("s3lab: the model's rates and depth must not be negative")
	case (b.Sustained > 0) != (b.Burst > 0) || b.Sustained < 0 || b.Burst < 0 || b.Peak < 0:
		return errors.New("s3lab: the model's bandwidth needs Burst and Sustained, or neither")
	}
	return nil
}

// sample draws a latency.
func (l Latency) sample(r *rand.Rand) time.Duration {
	if l.P50 <= 0 {
		return 0
	}
	const z99 = 2.3263478740408408 // the normal distribution's 99th percentile
	sigma := math.Log(float64(l.P99)/float64(l.P50)) / z99
	return time.Duration(float64(l.P50) * math.Exp(sigma*r.NormFloat64()))
}

// maxBuckets bounds what is kept of prefixes and of clients.
const maxBuckets = 1 << 16

// shaper is a model at work. A nil shaper does nothing.
type shaper struct {
	model Model

	mu       sync.Mutex
	rng      *rand.Rand
	prefixes map[string]*rate.Limiter
	clients  map[string]*bandwidth
}

func newShaper(m *Model) *shaper {
	if m == nil {
		return nil
	}
	return &shaper{
		model: *m, rng: rand.New(rand.NewPCG(m.Seed, 0)),
		prefixes: map[string]*rate.Limiter{}, clients: map[string]*bandwidth{},
	}
}

// writes says to which of S3's two classes an operation belongs.
func writes(operation string) bool {
	for _, verb := range []string{"Put", "Create", "Upload", "Complete", "Copy", "List", "Select", "Restore"} {
		if strings.HasPrefix(operation, verb) {
			return true
		}
	}
	return false
}

// admit gives how long the answer takes, or says that the prefix has no room.
func (s *shaper) admit(operation, path string) (delay time.Duration, ok bool) {
	if s == nil {
		return 0, true
	}
	limit, latency := s.model.GetRate, s.model.Get
	class := "r "
	if writes(operation) {
		limit, latency, class = s.model.PutRate, s.model.Put, "w "
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delay = latency.sample(s.rng)
	if limit <= 0 {
		return delay, true
	}
	key := class + prefixOf(path, s.model.PrefixDepth)
	l := s.prefixes[key]
	if l == nil {
		if len(s.prefixes) == maxBuckets {
			clear(s.prefixes)
		}
		l = rate.NewLimiter(rate.Limit(limit), max(1, int(limit)))
		s.prefixes[key] = l
	}
	return delay, l.Allow()
}

// prefixOf is the bucket and the first elements of the key, without its last.
func prefixOf(path string, depth int) string {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	return strings.Join(parts[:max(min(depth+1, len(parts)-1), 1)], "/")
}

// client gives the bandwidth of a client; nil is unlimited.
func (s *shaper) client(address string) *bandwidth {
	if s == nil || s.model.Bandwidth.Sustained <= 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.clients[address]
	if b == nil {
		if len(s.clients) == maxBuckets {
			clear(s.clients)
		}
		b = newBandwidth(s.model.Bandwidth)
		s.clients[address] = b
	}
	return b
}
