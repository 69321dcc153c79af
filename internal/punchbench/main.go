package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/bradawl/bradawl/internal/natlab"
)

type options struct {
	n         int
	scenarios string
	only      string
	timeout   time.Duration
	json      bool
	skew      bool
	cpu       string
	seed      uint64
}

func main() {
	if err := natlab.Enter(); err != nil {
		fail(err)
	}
	var o options
	flag.IntVar(&o.n, "n", 200, "fresh attempts per scenario and contestant")
	flag.StringVar(&o.scenarios, "scenario", "all", "scenarios to run, by name and separated by commas; an unknown name lists them")
	flag.StringVar(&o.only, "only", "", "contestants to run, by name and separated by commas; empty: all")
	flag.DurationVar(&o.timeout, "timeout", 10*time.Second, "after which an attempt counts as failed")
	flag.BoolVar(&o.json, "json", false, "print one JSON object per scenario")
	flag.BoolVar(&o.skew, "skew", false, "measure the skew of exact mode instead")
	flag.StringVar(&o.cpu, "cpuprofile", "", "write a CPU profile to this file")
	flag.Uint64Var(&o.seed, "seed", 0, "of the links' random choices; 0 draws one")
	flag.Parse()
	if o.n < 1 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if o.cpu != "" {
		f, err := os.Create(o.cpu)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			fail(err)
		}
		defer func() { pprof.StopCPUProfile(); _ = f.Close() }()
	}
	if err := run(o); err != nil {
		pprof.StopCPUProfile()
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "punchbench:", err)
	os.Exit(1)
}

func run(o options) error {
	list := scenarios
	if o.skew {
		list = skewScenarios
	}
	chosen, err := choose(list, o.scenarios)
	if err != nil {
		return err
	}
	for _, s := range chosen {
		var r any
		var err error
		if o.skew {
			r, err = measureSkew(o, s)
		} else {
			r, err = measure(o, s)
		}
		if err != nil {
			return fmt.Errorf("scenario %s: %w", s.Name, err)
		}
		if o.json {
			err = json.NewEncoder(os.Stdout).Encode(r)
		} else {
			_, err = fmt.Println(r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// choose finds the scenarios of a list by name.
func choose(list []scenario, names string) (out []scenario, err error) {
	if names == "all" {
		return list, nil
	}
	var known []string
	for _, s := range list {
		known = append(known, s.Name)
	}
	for name := range strings.SplitSeq(names, ",") {
		found := false
		for _, s := range list {
			if s.Name == name {
				out, found = append(out, s), true
			}
		}
		if !found {
			return nil, fmt.Errorf("no scenario %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	return out, nil
}
