package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/bradawl/bradawl/internal/natlab"
)

type options struct {
	shape   string
	n       int
	a, b    int
	rounds  int
	only    string
	timeout time.Duration
	json    bool
	profile string
}

func main() {
	if isPeer() {
		peerMain()
		return
	}
	if err := natlab.Enter(); err != nil {
		fail(err)
	}
	var o options
	flag.StringVar(&o.shape, "shape", shapeMesh, "mesh or bipartite")
	flag.IntVar(&o.n, "n", 64, "peers of a mesh")
	flag.IntVar(&o.a, "a", 200, "peers of one side of a bipartite group")
	flag.IntVar(&o.b, "b", 50, "peers of the other side")
	flag.IntVar(&o.rounds, "rounds", 5, "runs of each contestant, in changing order")
	flag.StringVar(&o.only, "only", "", "run only contestants whose name contains this")
	flag.DurationVar(&o.timeout, "timeout", 2*time.Minute, "after which a run counts its missing links as failed")
	flag.BoolVar(&o.json, "json", false, "print JSON")
	flag.StringVar(&o.profile, "cpuprofile", "", "write a CPU profile of each peer into this directory")
	flag.Parse()
	if o.rounds < 1 || o.n < 2 || o.a < 1 || o.b < 1 || o.shape != shapeMesh && o.shape != shapeBipartite || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	r, err := measure(o)
	if err != nil {
		fail(err)
	}
	if o.json {
		err = json.NewEncoder(os.Stdout).Encode(r)
	} else {
		_, err = fmt.Print(r)
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "meshbench:", err)
	os.Exit(1)
}
