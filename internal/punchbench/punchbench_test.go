package main

import (
	"testing"
	"time"

	"github.com/bradawl/bradawl/internal/natlab"
)

func TestMain(m *testing.M) { natlab.Main(m) }

func TestQuantileIsTheSmallestValueThatTheShareDoesNotExceed(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, c := range []struct {
		d    []time.Duration
		q    float64
		want time.Duration
	}{
		{hundred, 0.5, 50}, {hundred, 0.99, 99}, {hundred, 1, 100}, {hundred[:1], 0.99, 1}, {hundred[:60], 0.99, 60},
	} {
		if got := quantile(c.d, c.q); got != c.want {
			t.Errorf("quantile %v of %d values is %d, want %d", c.q, len(c.d), got, c.want)
		}
	}
}

func TestUnknownScenariosAreNamed(t *testing.T) {
	if _, err := choose(scenarios, "1ms,nowhere"); err == nil {
		t.Error("an unknown scenario was accepted")
	}
	if got, err := choose(scenarios, "1ms-loss,1ms"); err != nil || len(got) != 2 || got[0].Loss == 0 {
		t.Errorf("chose %v, %v", got, err)
	}
}

func TestEveryContestantConnectsInTheLab(t *testing.T) {
	natlab.Require(t)
	r, err := measure(options{n: 1, timeout: 20 * time.Second}, scenarios[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range r.Rows {
		if w.Failures != 0 || w.Echo == nil || w.Echo.P50 <= 2*inMS(scenarios[0].A+scenarios[0].B) {
			t.Errorf("%s: %d failures, first echoed byte %+v, which takes two round trips at least", w.Name, w.Failures, w.Echo)
		}
	}
	if r.S < 2*ms || r.P < 2*ms || r.Limits["S+2B"] <= r.Limits["S+B"] || r.Stages == nil {
		t.Errorf("S %v, P %v, limits %v, stages %v", r.S, r.P, r.Limits, r.Stages)
	}
}

func TestSkewIsMeasuredInTheLab(t *testing.T) {
	natlab.Require(t)
	r, err := measureSkew(options{n: 1, timeout: 20 * time.Second}, scenario{Name: "near", A: half, B: half, Server: half})
	if err != nil {
		t.Fatal(err)
	}
	if r.Failures != 0 || r.Skew == nil || r.AsComes == nil {
		t.Errorf("%d failures, %v, %v", r.Failures, r.Skew, r.AsComes)
	}
}
