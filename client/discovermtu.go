package client

import (
	"context"
	"slices"
	"time"

	"github.com/bradawl/bradawl/protocol"
)

const (
	// maxPathMTU is the largest packet tried, in bytes with the IP header: what Ethernet takes.
	maxPathMTU = 1500
	// minPathMTU is the smallest; every IPv4 host takes in as much.
	minPathMTU = 576
	// mtuSizes is how many sizes are tried at once.
	mtuSizes = 16
	// mtuGrain is the least difference of two sizes: STUN messages have a multiple of four bytes.
	mtuGrain = 4
)

// findPathMTU sends padded requests that may not be fragmented to the server's second port. (On the main one QUIC
// reads only packets of the size that it uses.)
func (d *discovery) findPathMTU(ctx context.Context) {
	to := d.alternate
	if !to.IsValid() {
		to = d.other
	}
	if !to.IsValid() {
		d.untested(TestPathMTU, "the server has no second STUN socket that answers")
		return
	}
	s, err := d.c.newProbeSocket()
	if err != nil {
		d.untested(TestPathMTU, err.Error())
		return
	}
	defer s.close()
	v6 := to.Addr().Is6()
	if err := forbidFragments(s.pc, v6); err != nil {
		d.untested(TestPathMTU, err.Error())
		return
	}
	headers := 20 + 8
	if v6 {
		headers = 40 + 8
	}
	passes := func(sizes []int) (best int) { // the largest that was answered, 0 if none
		asked := make(map[[12]byte]int)
		for range probeRounds - 1 {
			for _, size := range sizes {
				if size <= best {
					continue
				}
				if tid, err := s.send(protocol.Probe{Size: size - headers}, to); err == nil { // else larger than the own interface takes
					asked[tid] = size
				}
			}
			s.until(ctx, d.patience(50*time.Millisecond), func(h heard) bool {
				if h.mapped.IsValid() {
					best = max(best, asked[h.tid])
				}
				return best == slices.Max(sizes)
			})
			if best == slices.Max(sizes) || ctx.Err() != nil {
				break
			}
		}
		return best
	}
	low, high := 0, maxPathMTU+mtuGrain // low passes, high does not
	sizes := spread(minPathMTU-mtuGrain, high)
	for len(sizes) > 0 && ctx.Err() == nil {
		best := passes(sizes)
		if best == 0 && low == 0 {
			d.untested(TestPathMTU, "no answer came to padded requests")
			return
		}
		low = max(low, best)
		for _, size := range sizes {
			if size > low {
				high = min(high, size)
			}
		}
		sizes = spread(low, high)
	}
	d.report.PathMTU = low
}

// spread returns sizes evenly between two, themselves excluded; a grain apart at least.
func spread(low, high int) (out []int) {
	step := max(mtuGrain, (high-low)/(mtuSizes+1)&^(mtuGrain-1))
	for size := high - mtuGrain; size > low; size -= step {
		out = append(out, size)
	}
	return out
}
