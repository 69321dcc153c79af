package natlab

import (
	"fmt"
	"time"

	"github.com/bradawl/bradawl/internal/natlab/forward"
)

// Link describes a site's way to the core. The zero value is a veth pair and nothing
// else: the kernel forwards, at memory speed. If any of Delay, Jitter, Loss and Reorder is set,
// a process of the lab carries each packet, at up to some 100,000 packets per second for
// the whole lab.
type Link struct {
	// Delay is added to each packet, in each direction.
	Delay time.Duration
	// Jitter adds an even random share of itself on top. Packets keep their order.
	Jitter time.Duration
	// Loss is the share of packets to lose, in each direction, from 0 to 1.
	Loss float64
	// Reorder is the share of packets, from 0 to 1, that are held back for ReorderBy, so
	// that later ones overtake them.
	Reorder float64
	// ReorderBy is how long. Zero means 2 ms.
	ReorderBy time.Duration
	// Seed makes the link's random choices repeatable. Zero derives one from the lab's seed.
	Seed uint64
	// Queue is how many packets can be under way in one direction; more are
	// dropped. Zero means 16384.
	Queue int
	// MTU is the largest IP packet. Zero means 1500. At least 576.
	MTU int
}

func (l Link) forwarded() bool {
	return l.Delay > 0 || l.Jitter > 0 || l.Loss > 0 || l.Reorder > 0
}

func (l Link) validate() error {
	switch {
	case l.Delay < 0 || l.Jitter < 0 || l.ReorderBy < 0:
		return fmt.Errorf("natlab: negative time in link %+v", l)
	case !(l.Loss >= 0 && l.Loss <= 1) || !(l.Reorder >= 0 && l.Reorder <= 1):
		return fmt.Errorf("natlab: loss %v and reorder %v must be from 0 to 1", l.Loss, l.Reorder)
	case l.MTU != 0 && (l.MTU < 576 || l.MTU > 65535):
		return fmt.Errorf("natlab: MTU %d must be from 576 to 65535, or 0", l.MTU)
	case l.Queue < 0:
		return fmt.Errorf("natlab: negative queue %d", l.Queue)
	}
	return nil
}

// shape completes the link's settings for the forwarder.
func (l Link) shape(seed uint64) forward.Shape {
	s := forward.Shape{
		Delay: l.Delay, Jitter: l.Jitter, Loss: l.Loss,
		Reorder: l.Reorder, ReorderBy: l.ReorderBy, Queue: l.Queue, Seed: l.Seed,
	}
	if s.ReorderBy == 0 {
		s.ReorderBy = defaultReorderBy
	}
	if s.Queue == 0 {
		s.Queue = defaultQueue
	}
	if s.Seed == 0 {
		s.Seed = seed
	}
	return s
}

const (
	defaultReorderBy = 2 * time.Millisecond
	defaultQueue     = 16384
	defaultMTU       = 1500
)
