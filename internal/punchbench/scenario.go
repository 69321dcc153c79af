package main

import (
	"time"

	"github.com/bradawl/bradawl/internal/natlab"
)

// scenario is a network: the one-way delays between each site and the core.
type scenario struct {
	// Name is what -scenario takes.
	Name string `json:"name"`
	// A, B and Server are one-way delays of the sites' links, in nanoseconds.
	A      time.Duration `json:"a_ns"`
	B      time.Duration `json:"b_ns"`
	Server time.Duration `json:"server_ns"`
	// Jitter is added to each packet of both sites, evenly from zero up, in nanoseconds.
	Jitter time.Duration `json:"jitter_ns,omitempty"`
	// Loss is the share of packets lost at both sites, in each direction.
	Loss float64 `json:"loss,omitempty"`
}

const (
	half = 500 * time.Microsecond
	ms   = time.Millisecond
)

// scenarios are those of connect times. "1ms" has 1 ms one way between any two of the three.
var scenarios = []scenario{
	{Name: "1ms", A: half, B: half, Server: half},
	{Name: "5-25-10", A: 5 * ms, B: 25 * ms, Server: 10 * ms},
	{Name: "1ms-loss", A: half, B: half, Server: half, Loss: 0.05},
	{Name: "5-25-10-loss", A: 5 * ms, B: 25 * ms, Server: 10 * ms, Loss: 0.05},
}

// skewScenarios have 2 and 60 ms one way to the rendezvous.
var skewScenarios = []scenario{
	{Name: "2-60", A: 3 * ms / 2, B: 119 * ms / 2, Server: half},
	{Name: "2-60-jitter", A: 3 * ms / 2, B: 119 * ms / 2, Server: half, Jitter: 20 * ms},
}

func (s scenario) link(delay time.Duration) natlab.Link {
	return natlab.Link{Delay: delay, Jitter: s.Jitter, Loss: s.Loss}
}

// serverRTT is S without what computing adds.
func (s scenario) serverRTT() time.Duration { return 2 * (s.A + s.Server) }

// orderToB is how long after A's call the word of the rendezvous reaches B.
func (s scenario) orderToB() time.Duration { return s.A + s.Server + s.Server + s.B }
