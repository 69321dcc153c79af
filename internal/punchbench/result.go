package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// row is what one contestant did.
type row struct {
	Name     string `json:"name"`
	Failures int    `json:"failures"`
	// Stream, Echo and CPU are nil when nothing was measured.
	Stream *spread `json:"stream_ms,omitempty"`
	Echo   *spread `json:"echo_ms,omitempty"`
	// CPU is the time that the whole process used from the call to the echoed byte.
	CPU *spread `json:"cpu_ms,omitempty"`

	streams, echoes, cpus []time.Duration
}

// spread is a distribution in milliseconds.
type spread struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func (r *row) add(s sample, cpu time.Duration) {
	if s.stream > 0 {
		r.streams = append(r.streams, s.stream)
	}
	r.echoes = append(r.echoes, s.echo)
	r.cpus = append(r.cpus, cpu)
}

func spreadOf(d []time.Duration) *spread {
	if len(d) == 0 {
		return nil
	}
	d = slices.Sorted(slices.Values(d))
	return &spread{N: len(d), P50: inMS(quantile(d, 0.5)), P99: inMS(quantile(d, 0.99)), Max: inMS(d[len(d)-1])}
}

// quantile is the smallest value that at least the share q does not exceed.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	return quantile(slices.Sorted(slices.Values(d)), 0.5)
}

func inMS(d time.Duration) float64 { return math.Round(float64(d)/1e3) / 1e3 }

// result is a scenario's outcome.
type result struct {
	Scenario scenario `json:"scenario"`
	Seed     uint64   `json:"seed"`
	// S is the round trip to the rendezvous in nanoseconds, the median of one ping before each attempt, as B is a median
	// too; SLeast is the smallest of them. P is the smallest round trip between the peers.
	S      time.Duration `json:"s_ns"`
	SLeast time.Duration `json:"s_least_ns"`
	P      time.Duration `json:"p_ns"`
	Rows   []*row        `json:"rows"`
	// Limits are the least S+P, and S+B and S+2B, in milliseconds; B is the bare baseline's median to a usable stream.
	Limits map[string]float64 `json:"limits_ms,omitempty"`
	// Stages is where our own time goes.
	Stages *breakdown `json:"stages,omitempty"`
}

func (r *result) evaluate() {
	r.Limits = map[string]float64{"S+P": inMS(r.SLeast + r.P)}
	for _, w := range r.Rows {
		w.Stream, w.Echo, w.CPU = spreadOf(w.streams), spreadOf(w.echoes), spreadOf(w.cpus)
		if w.Name == bareName && w.Stream != nil {
			r.Limits["B"] = w.Stream.P50
			r.Limits["S+B"] = inMS(r.S) + w.Stream.P50
			r.Limits["S+2B"] = inMS(r.S) + 2*w.Stream.P50
		}
	}
}

// String is a table.
func (r *result) String() string {
	var b strings.Builder
	s := r.Scenario
	fmt.Fprintf(&b, "%s: one way to the core a %v, b %v, server %v; loss %v %% at a and b; seed %d\n", s.Name, s.A, s.B, s.Server, 100*s.Loss, r.Seed)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "ms\tstream p50\tp99\tmax\techo p50\tp99\tmax\tCPU p50\tn\tfailed\t")
	for _, w := range r.Rows {
		if w.Echo == nil && w.Failures == 0 {
			continue
		}
		fmt.Fprintf(t, "%s\t%s%s", w.Name, w.Stream.cells(), w.Echo.cells())
		n, cpu := 0, "-"
		if w.Echo != nil {
			n, cpu = w.Echo.N, fmt.Sprintf("%.2f", w.CPU.P50)
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t\n", cpu, n+w.Failures, w.Failures)
	}
	_ = t.Flush() // into memory
	fmt.Fprintf(&b, "S %.2f (least %.2f), P %.2f (least), least S+P %.2f", inMS(r.S), inMS(r.SLeast), inMS(r.P), r.Limits["S+P"])
	if _, ok := r.Limits["B"]; ok {
		fmt.Fprintf(&b, ", B %.2f, S+B %.2f, S+2B %.2f", r.Limits["B"], r.Limits["S+B"], r.Limits["S+2B"])
	}
	if r.Stages != nil {
		fmt.Fprintf(&b, "\n%s", r.Stages)
	}
	return b.String() + "\n"
}

func (s *spread) cells() string {
	if s == nil {
		return "-\t-\t-\t"
	}
	return fmt.Sprintf("%.2f\t%.2f\t%.2f\t", s.P50, s.P99, s.Max)
}
