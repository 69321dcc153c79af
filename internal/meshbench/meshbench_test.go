package main

import (
	"testing"
	"time"

	"github.com/bradawl/bradawl/internal/natlab"
)

func TestMain(m *testing.M) {
	if isPeer() {
		peerMain()
		return
	}
	natlab.Main(m)
}

func TestShapesHaveAllPairsOnce(t *testing.T) {
	for _, c := range []struct {
		o     options
		links int
	}{
		{options{shape: shapeMesh, n: 64}, 2016}, {options{shape: shapeMesh, n: 2}, 1},
		{options{shape: shapeBipartite, a: 200, b: 50}, 10_000}, {options{shape: shapeBipartite, a: 1, b: 1}, 1},
	} {
		s := newShape(c.o)
		n := 0
		for i := range s.places {
			for j := range i {
				if s.linked(i, j) != s.linked(j, i) {
					t.Fatalf("%+v: %d and %d disagree", c.o, i, j)
				}
				if s.linked(i, j) {
					n++
				}
			}
		}
		if n != c.links || s.links() != c.links {
			t.Errorf("%+v: %d pairs, %d links, want %d", c.o, n, s.links(), c.links)
		}
	}
}

func TestRatioIsToTheFasterBaseline(t *testing.T) {
	r := &result{Rows: []*row{
		{Name: oursName, Runs: []outcome{{Took: 30, CPU: 8}, {Took: 24, CPU: 8}, {Took: 20, CPU: 8}}},
		{Name: "one", Runs: []outcome{{Took: 40, CPU: 4}}}, {Name: "two", Runs: []outcome{{Took: 20, CPU: 16}}}, {Name: "three"},
	}}
	r.evaluate()
	if r.Ratio != 1.2 || r.CPURatio != 2 {
		t.Errorf("ratio %v, of CPU %v", r.Ratio, r.CPURatio)
	}
}

func TestEveryContestantLinksSmallGroupsInTheLab(t *testing.T) {
	natlab.Require(t)
	for _, o := range []options{{shape: shapeMesh, n: 4}, {shape: shapeBipartite, a: 3, b: 2}} {
		t.Run(o.shape, func(t *testing.T) {
			t.Parallel()
			o.rounds, o.timeout = 1, 30*time.Second
			r, err := measure(o)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Rows) != 3 || r.Ratio <= 0 {
				t.Errorf("%d contestants, ratio %v", len(r.Rows), r.Ratio)
			}
			for _, w := range r.Rows {
				if w.Failures != 0 || len(w.Runs) != 1 || w.Runs[0].Ends != 2*r.Links || w.CPU <= 0 {
					t.Errorf("%+v, want %d ends", w, 2*r.Links)
				}
			}
		})
	}
}
