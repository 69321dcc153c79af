package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// outcome is what one run of a contestant came to.
type outcome struct {
	Name string `json:"name"`
	// Took is the time from the word to go until the last peer had all its links, CPU what all processes and the rendezvous used.
	Took time.Duration `json:"took_ns"`
	CPU  time.Duration `json:"cpu_ns"`
	// Server is the rendezvous' part of CPU.
	Server time.Duration `json:"server_cpu_ns"`
	// Ends counts links at both ends, Failures ends without one; Err is the first failure's.
	Ends     int    `json:"ends"`
	Failures int    `json:"failures"`
	Err      string `json:"err,omitempty"`
	// Drops are packets for which a socket had no room; Attempts is the sum over all ends.
	Drops    int `json:"drops"`
	Attempts int `json:"attempts"`
	// Packets is how many UDP packets the peers have sent.
	Packets int `json:"packets"`
}

// String is one line.
func (o outcome) String() string {
	s := fmt.Sprintf("%s: %v, %d ends, %d failures, CPU %v (%v of it here), %d packets sent, %d dropped at sockets, %d attempts",
		o.Name, o.Took.Round(time.Millisecond), o.Ends, o.Failures, o.CPU.Round(10*time.Millisecond), o.Server.Round(10*time.Millisecond), o.Packets, o.Drops, o.Attempts)
	if o.Err != "" {
		s += ": " + o.Err
	}
	return s
}

// row is all runs of one contestant.
type row struct {
	Name string    `json:"name"`
	Runs []outcome `json:"runs"`
	// Took and CPU are medians.
	Took     time.Duration `json:"took_ns"`
	CPU      time.Duration `json:"cpu_ns"`
	Failures int           `json:"failures"`
	Drops    int           `json:"drops"`
}

func (r *row) add(o outcome) { r.Runs = append(r.Runs, o) }

// result compares the contestants.
type result struct {
	Shape  string `json:"shape"`
	Peers  int    `json:"peers"`
	Links  int    `json:"links"`
	Rounds int    `json:"rounds"`
	Rows   []*row `json:"rows"`
	// Ratio is our median time by the smaller of the baselines'; CPURatio likewise. 0: not all were run.
	Ratio    float64 `json:"ratio"`
	CPURatio float64 `json:"cpu_ratio"`
}

func (r *result) evaluate() {
	var own, took, cpu time.Duration
	var ownCPU time.Duration
	for _, w := range r.Rows {
		if len(w.Runs) == 0 {
			continue
		}
		w.Took, w.CPU = median(w.Runs, func(o outcome) time.Duration { return o.Took }), median(w.Runs, func(o outcome) time.Duration { return o.CPU })
		for _, o := range w.Runs {
			w.Failures += o.Failures
			w.Drops += o.Drops
		}
		if w.Name == oursName {
			own, ownCPU = w.Took, w.CPU
			continue
		}
		if took == 0 || w.Took < took {
			took = w.Took
		}
		if cpu == 0 || w.CPU < cpu {
			cpu = w.CPU
		}
	}
	if own > 0 && took > 0 {
		r.Ratio, r.CPURatio = float64(own)/float64(took), float64(ownCPU)/float64(cpu)
	}
}

// median is the lower one of an even number.
func median(runs []outcome, of func(outcome) time.Duration) time.Duration {
	var d []time.Duration
	for _, o := range runs {
		d = append(d, of(o))
	}
	slices.Sort(d)
	return d[(len(d)-1)/2]
}

// String is a table.
func (r *result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of %d processes, each behind a port-restricted NAT of its own, %d links, medians of %d runs\n", r.Shape, r.Peers, r.Links, r.Rounds)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tms\tfastest\tslowest\tlinks/s\tCPU s\tfailed ends\tdropped at sockets\t")
	for _, w := range r.Rows {
		if len(w.Runs) == 0 {
			continue
		}
		first, last := w.Runs[0].Took, w.Runs[0].Took
		for _, o := range w.Runs {
			first, last = min(first, o.Took), max(last, o.Took)
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%.0f\t%.2f\t%d\t%d\t\n", w.Name, w.Took.Milliseconds(), first.Milliseconds(), last.Milliseconds(),
			float64(r.Links)/w.Took.Seconds(), w.CPU.Seconds(), w.Failures, w.Drops)
	}
	_ = t.Flush() // into memory
	if r.Ratio > 0 {
		fmt.Fprintf(&b, "time: %.2f of the faster baseline's; CPU: %.2f of the smaller\n", r.Ratio, r.CPURatio)
	}
	return b.String()
}
