package exchange

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/bradawl/bradawl/lambdaclient/price"
)

func testRates(t testing.TB, c price.Choice) price.Rates {
	t.Helper()
	table, err := price.Published()
	if err != nil {
		t.Fatal(err)
	}
	r, err := table.Rates(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// economy is one point of the grid: a producer that has finished, and consumers
// that come when they come, each at an instant after that.
type economy struct {
	rates     price.Rates
	memoryMB  int
	size      int64 // of each partition
	arrivals  []time.Duration
	work      time.Duration
	perHour   float64 // losses
	announced bool
	rate      float64
}

func (w *economy) String() string {
	return fmt.Sprintf("%d MB of memory, %d partitions of %d bytes, consumers %v to %v, %v of work, %g losses per hour, %s, transfer charged %v, announced %v",
		w.memoryMB, len(w.arrivals), w.size, w.arrivals[0], w.arrivals[len(w.arrivals)-1], w.work, w.perHour, w.rates.Class, w.rates.TransferCharged, w.announced)
}

// The prices of the ways, by hand and not by the product's code. Time is in seconds.
func (w *economy) rent() float64 { return float64(w.memoryMB) / 1024 * w.rates.LambdaGBSecond }

func (w *economy) waited(t float64) float64 {
	hazard := w.perHour / 3600
	redo := w.rent() * w.work.Seconds()
	if hazard == 0 {
		return w.rent() * t
	}
	lost := 1 - math.Exp(-hazard*t)
	return w.rent()*lost/hazard + redo*lost
}

func (w *economy) write(partitions int) float64 {
	bytes := float64(w.size) * float64(partitions)
	puts := 1.
	switch {
	case bytes >= 16<<20:
		puts += 2 + math.Ceil(bytes/(8<<20))
	case bytes > 0:
		puts++
	}
	gib := bytes / (1 << 30)
	return puts*w.rates.S3Put + 2*float64(partitions)*w.rates.S3Get +
		gib*(w.rates.S3UploadGB+w.rates.S3RetrieveGB) + w.rent()*bytes/w.rate
}

func (w *economy) direct(partitions int) float64 {
	if !w.rates.TransferCharged {
		return 0
	}
	return 2 * float64(w.size) * float64(partitions) / 1e9 * w.rates.TransferGB
}

// never and writeThrough are the two rivals, auto what the policy does.
func (w *economy) never() float64 {
	return w.waited(w.arrivals[len(w.arrivals)-1].Seconds()) + w.direct(len(w.arrivals))
}

func (w *economy) writeThrough() float64 { return w.write(len(w.arrivals)) }

func (w *economy) auto(t testing.TB) float64 {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := situation{
		now: start, began: start.Add(-w.work), finished: start, mode: Auto, rate: w.rate,
		policy:  Policy{TimeToSync: Never, TimeToLive: Never, Auto: true, Costs: Costs{Rates: w.rates, MemoryMB: w.memoryMB}, Loss: Loss{PerHour: w.perHour}},
		bytes:   w.size * int64(len(w.arrivals)),
		unacked: len(w.arrivals), unackedBytes: w.size * int64(len(w.arrivals)), hopeful: len(w.arrivals),
	}
	if w.perHour == 0 {
		s.policy.Loss.PerHour = -1
	}
	if w.announced {
		s.expected = start.Add(w.arrivals[len(w.arrivals)-1])
	}
	acked := 0
	for steps := 0; ; steps++ {
		if steps > 10*len(w.arrivals)+10 {
			t.Fatalf("%v: the policy does not come to an end: %+v", w, decide(&s))
		}
		for acked < len(w.arrivals) && !start.Add(w.arrivals[acked]).After(s.now) {
			acked++
			s.unacked--
			s.unackedBytes -= w.size
			s.hopeful--
		}
		d := decide(&s)
		switch {
		case d.step == stepLeave && s.unacked == 0 || d.step == stepSync:
			return w.waited(s.now.Sub(start).Seconds()) + w.direct(acked) + map[bool]float64{true: w.write(s.unacked)}[d.step == stepSync]
		case d.step == stepLeave:
			t.Fatalf("%v: it leaves with data neither taken nor saved", w)
		}
		s.now = start.Add(w.arrivals[acked])
		if !d.at.IsZero() && d.at.Before(s.now) {
			s.now = d.at
		}
	}
}

// grid goes through sizes, consumers, memories, waits, works, losses, classes and charges.
func grid(t testing.TB, visit func(*economy)) {
	for _, class := range []price.Class{price.Standard, price.ExpressOneZone} {
		for _, charged := range []bool{false, true} {
			rates := testRates(t, price.Choice{Class: class, TransferCharged: charged})
			works := []time.Duration{time.Second, time.Minute, 15 * time.Minute}
			if raceDetector || testing.Short() {
				works = works[1:2]
			}
			for _, memory := range []int{128, 512, 1769, 10240} {
				for _, consumers := range []int{1, 10, 100, 1000} {
					for _, total := range []int64{0, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10} {
						for _, work := range works {
							for _, perHour := range []float64{0, PublishedLoss, 1, 60} {
								for wait := 10 * time.Millisecond; wait <= 1000*time.Second; wait *= 10 {
									for _, spread := range []bool{false, true} {
										w := &economy{rates: rates, memoryMB: memory, size: total / int64(consumers), work: work, perHour: perHour, rate: 78e6}
										for i := range consumers {
											at := wait
											if spread {
												at = wait * time.Duration(i+1) / time.Duration(consumers)
											}
											w.arrivals = append(w.arrivals, at)
										}
										visit(w)
									}
								}
							}
						}
					}
				}
			}
		}
	}
}

// ratio compares with the better of the two rivals. Instants are rounded to
// nanoseconds, and so are the dollars that they are worth.
func (w *economy) ratio(t testing.TB) float64 {
	rounding := w.waited(2e-9)
	best := min(w.never(), w.writeThrough())
	return (w.auto(t) - rounding) / max(best, rounding)
}

func TestAutoCostsAtMostTwiceTheBetterOfWriteThroughAndNever(t *testing.T) {
	t.Parallel()
	var all, free, whole []float64
	worst := 0.
	grid(t, func(w *economy) {
		if len(w.arrivals) > 100 && w.arrivals[0] != w.arrivals[len(w.arrivals)-1] && w.work != time.Minute {
			return // the slow ones, thinned out
		}
		r := w.ratio(t)
		if r > 2 {
			t.Errorf("%.4f times: %v: auto %g, never %g, write-through %g", r, w, w.auto(t), w.never(), w.writeThrough())
		}
		worst = max(worst, r)
		all = append(all, r)
		if !w.rates.TransferCharged {
			free = append(free, r)
			if w.memoryMB == 1769 {
				whole = append(whole, r)
			}
		}
	})
	slices.Sort(all)
	slices.Sort(free)
	slices.Sort(whole)
	median, freeMedian := all[len(all)/2], free[len(free)/2]
	t.Logf("%d points: worst %.4f, median %.4f, p90 %.4f; with free transfer alone median %.4f, and of that with 1,769 MB alone %.4f",
		len(all), worst, median, all[len(all)*9/10], freeMedian, whole[len(whole)/2])
	if median > 1.1 || freeMedian > 1.1 {
		t.Errorf("the median is %.4f, with free transfer %.4f, more than 1.1", median, freeMedian)
	}
	if worst < 1.5 {
		t.Errorf("the worst point is %.4f: the grid does not test the bound", worst)
	}
}

func TestAutoWithAnnouncedConsumersIsNearlyTheBetterOfBoth(t *testing.T) {
	t.Parallel()
	worst := 0.
	grid(t, func(w *economy) {
		if w.arrivals[0] != w.arrivals[len(w.arrivals)-1] {
			return // the rivals write and wait for all at once
		}
		w.announced = true
		r := w.ratio(t)
		worst = max(worst, r)
		if r > 1.1 {
			t.Errorf("%.4f times: %v: auto %g, never %g, write-through %g", r, w, w.auto(t), w.never(), w.writeThrough())
		}
	})
	t.Logf("worst %.4f", worst)
}
