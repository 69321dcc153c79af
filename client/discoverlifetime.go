package client

import (
	"context"
	"sync"
	"time"

	"github.com/bradawl/bradawl/protocol"
)

const (
	// lifetimeSockets is how many mappings idle at once: each pass narrows the answer down by as much.
	lifetimeSockets = 16
	// lifetimeGrain is the least difference that is looked for; NATs count in seconds.
	lifetimeGrain = 500 * time.Millisecond
	// lifetimeMargin is what a pass takes beside the idling.
	lifetimeMargin = time.Second
)

// Lifetime bounds how long a mapping lasts after its last outbound packet, which had been answered once. A NAT may keep
// mappings with a livelier history for longer.
type Lifetime struct {
	// AtLeast is the longest idle time after which a packet still came in. 0: none was tried.
	AtLeast time.Duration
	// Below is the shortest after which none did any more. 0: the mapping lasted as long as was tried.
	Below time.Duration
}

// findLifetime lets mappings idle for different times side by side, and then has the server send to each: the request,
// from another socket, names the mapping's port (RESPONSE-PORT). It narrows the answer down while there is time.
func (d *discovery) findLifetime(ctx context.Context, budget time.Duration) {
	ends := time.Now().Add(budget)
	if !d.main.IsValid() {
		d.untested(TestLifetime, "the server's STUN socket does not answer")
		return
	}
	if budget < 2*lifetimeMargin {
		d.untested(TestLifetime, "less than 2 s were given")
		return
	}
	asker, err := d.c.newProbeSocket()
	if err != nil {
		d.untested(TestLifetime, err.Error())
		return
	}
	defer asker.close()
	if d.idle(ctx, asker, []time.Duration{0})[0] != VerdictYes {
		d.untested(TestLifetime, "answers to another port do not come in: the server refuses, or the NAT uses several addresses")
		return
	}
	longest := budget - lifetimeMargin
	times := make([]time.Duration, lifetimeSockets)
	for i := range times {
		times[i] = longest * time.Duration(i+1) / lifetimeSockets
	}
	var out Lifetime
	for {
		for i, alive := range d.idle(ctx, asker, times) {
			switch {
			case alive == VerdictYes && (out.Below == 0 || times[i] < out.Below):
				out.AtLeast = max(out.AtLeast, times[i])
			case alive == VerdictNo && (out.Below == 0 || times[i] < out.Below):
				out.Below = times[i]
			}
		}
		if ctx.Err() != nil {
			return
		}
		width := out.Below - out.AtLeast
		if out.Below == 0 || width <= max(lifetimeGrain, out.AtLeast/20) || time.Until(ends) < out.Below+lifetimeMargin {
			break
		}
		n := min(lifetimeSockets, int(width/lifetimeGrain))
		times = make([]time.Duration, max(n, 1))
		for i := range times {
			times[i] = out.AtLeast + width*time.Duration(i+1)/time.Duration(len(times)+1)
		}
	}
	d.report.Lifetime = out
}

// idle makes a mapping for each time, leaves it alone for so long, and tells whether packets still come in then. The times
// rise; as soon as none come in, those that are longer remain unknown.
func (d *discovery) idle(ctx context.Context, asker *probeSocket, times []time.Duration) []Verdict {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	alive := make([]Verdict, len(times))
	var wg sync.WaitGroup
	for i, t := range times {
		wg.Go(func() {
			if alive[i] = d.survives(ctx, asker, t); alive[i] == VerdictNo {
				cancel()
			}
		})
	}
	wg.Wait()
	return alive
}

// survives makes a mapping and tells whether a packet comes in after it was idle. Unknown: ctx ended before.
func (d *discovery) survives(ctx context.Context, asker *probeSocket, idle time.Duration) Verdict {
	s, err := d.c.newProbeSocket()
	if err != nil {
		return VerdictUnknown
	}
	defer s.close()
	mapped, _ := s.ask(ctx, d.main)
	if !mapped.IsValid() {
		return VerdictUnknown
	}
	s.until(ctx, idle, func(heard) bool { return false })
	sent := make(map[[12]byte]bool)
	for range probeRounds {
		tid, err := asker.send(protocol.Probe{ResponsePort: mapped.Port()}, d.main)
		if err != nil {
			continue
		}
		sent[tid] = true
		if s.until(ctx, d.patience(100*time.Millisecond), func(h heard) bool { return sent[h.tid] }) {
			return VerdictYes
		}
		if ctx.Err() != nil {
			return VerdictUnknown
		}
	}
	return VerdictNo
}
