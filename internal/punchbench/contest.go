package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// contestant connects a to b.
type contestant interface {
	name() string
	// attempt makes one fresh connection. It calls start when all is prepared
	// and the time begins to count.
	attempt(ctx context.Context, start func()) (sample, error)
	close() error
}

// sample is one attempt's time since the call.
type sample struct {
	stream time.Duration // until a stream was usable; 0: does not have any
	echo   time.Duration // until one byte was back
}

// settle is how long after one attempt the next begins: farewells are under way.
const settle = 20 * time.Millisecond

func measure(o options, s scenario) (_ *result, err error) {
	w, err := newWorld(s, o.seed)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := w.close(); err == nil {
			err = cerr
		}
	}()
	var all []contestant
	defer func() {
		for _, c := range all {
			_ = c.close()
		}
	}()
	own, err := newOurs(w)
	if err != nil {
		return nil, err
	}
	all = append(all, own)
	for _, make := range []func(*world) (contestant, error){newBare, newBareX25519, newTunedICE, newDefaultICE} {
		c, err := make(w)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	r := &result{Scenario: s, Seed: w.lab.Seed()}
	for _, c := range all {
		r.Rows = append(r.Rows, &row{Name: c.name()})
	}
	for i := range o.n {
		// Each takes every place in the order equally often.
		for k := range all {
			j := (i + k) % len(all)
			if o.only != "" && !strings.Contains(","+o.only+",", ","+all[j].name()+",") {
				continue
			}
			if err := try(o, all[j], r.Rows[j]); err != nil {
				fmt.Fprintf(os.Stderr, "%s, attempt %d of %s: %v\n", s.Name, i, all[j].name(), err)
			}
		}
	}
	r.SLeast, r.P, r.Stages = own.serverRTT, own.peerRTT, own.stages.breakdown()
	r.S = median(own.pings)
	r.evaluate()
	return r, nil
}

// try makes one attempt. The collector runs before, so that none pays for another one's garbage.
func try(o options, c contestant, to *row) error {
	ctx, cancel := context.WithTimeout(context.Background(), o.timeout)
	defer cancel()
	time.Sleep(settle)
	runtime.GC()
	var began time.Duration
	got, err := c.attempt(ctx, func() { began = cpuTime() })
	if err != nil {
		to.Failures++
		return err
	}
	to.add(got, cpuTime()-began)
	return nil
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
