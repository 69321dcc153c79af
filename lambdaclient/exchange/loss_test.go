package exchange

import (
	"math"
	"testing"
	"time"
)

func TestLossStartsFromTheSettingAndLearnsFromTheJob(t *testing.T) {
	near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b), 1e-3) }
	if !near(PublishedLoss, 0.018578) && math.Abs(PublishedLoss-0.0186) > 1e-4 {
		t.Errorf("the published figure comes to %v per hour", PublishedLoss)
	}
	for _, tc := range []struct {
		name string
		loss Loss
		want float64
	}{
		{"zero value", Loss{}, PublishedLoss},
		{"setting", Loss{PerHour: 2}, 2},
		{"none expected", Loss{PerHour: -1}, 0},
		{"no losses in as many hours as the prior has", Loss{PerHour: 2, Weight: 5, Hours: 5}, 1},
		{"ten losses in an hour", Loss{PerHour: 0.5, Weight: 4}.Learn(10, time.Hour), 12. / 5},
		{"none expected, but seen", Loss{PerHour: -1, Weight: 1}.Learn(1, time.Hour), 0.5},
		{"learns in steps as at once", Loss{}.Learn(1, time.Hour).Learn(2, 9*time.Hour), (PublishedLoss*10 + 3) / 20},
		{"nonsense is not learnt", Loss{}.Learn(-3, -time.Hour), PublishedLoss},
	} {
		if got := tc.loss.Rate(); !near(got, tc.want) {
			t.Errorf("%s: %v per hour, want %v", tc.name, got, tc.want)
		}
	}
	// A job that sees a rate for long believes it.
	l := Loss{}
	for range 1000 {
		l = l.Learn(3, time.Hour)
	}
	if math.Abs(l.Rate()-3) > 0.05 {
		t.Errorf("after 1,000 h with 3 losses each: %v per hour", l.Rate())
	}
}
