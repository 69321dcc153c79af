package s3lab

import (
	"context"
	"io"

	"golang.org/x/time/rate"
)

// slice is how much is sent or received before the next look at the bucket.
const slice = 64 << 10

// bandwidth is the token bucket of one client.
type bandwidth struct {
	sustained *rate.Limiter
	peak      *rate.Limiter // nil: none
}

func newBandwidth(b Bandwidth) *bandwidth {
	w := &bandwidth{sustained: rate.NewLimiter(rate.Limit(b.Sustained), int(max(b.Burst, slice)))}
	if b.Peak > 0 {
		w.peak = rate.NewLimiter(rate.Limit(b.Peak), max(slice, int(b.Peak/100)))
	}
	return w
}

// take waits until n bytes, at most slice, may pass.
func (b *bandwidth) take(n int) {
	if b == nil || n <= 0 {
		return
	}
	// Without an end of the context, and within the burst, waiting cannot fail.
	_ = b.sustained.WaitN(context.Background(), n)
	if b.peak != nil {
		_ = b.peak.WaitN(context.Background(), n)
	}
}

// piece is how much of buf may be filled at once.
func (b *bandwidth) piece(buf []byte) []byte {
	if b == nil {
		return buf
	}
	return buf[:min(len(buf), slice)]
}

// pace reads no faster than the bandwidth allows.
func (b *bandwidth) pace(r io.Reader) io.Reader {
	if b == nil {
		return r
	}
	return &paced{r, b}
}

type paced struct {
	r io.Reader
	b *bandwidth
}

func (p *paced) Read(buf []byte) (int, error) {
	n, err := p.r.Read(p.b.piece(buf))
	p.b.take(n)
	return n, err
}
