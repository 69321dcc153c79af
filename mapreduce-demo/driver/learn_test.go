package driver

import (
	"context"
	"testing"
	"time"

	"github.com/bradawl/bradawl/mapreduce-demo/task"
)

func TestLossesAreLearntFromWhatEnds(t *testing.T) {
	r := idle()
	ran := func(a Attempt, hours int) Attempt {
		a.Billing.Billed = time.Duration(hours) * time.Hour
		return a
	}
	reported := &task.Report{}
	end(t, r, ran(Attempt{ID: mapper(0, 0), Report: reported}, 1))
	end(t, r, ran(Attempt{ID: reducer(1, 0), Report: reported, Error: "a failure that it could tell"}, 2))
	if r.loss.Seen != 0 || r.loss.Hours != 3 {
		t.Errorf("after functions that answered: %+v", r.loss)
	}
	end(t, r, ran(Attempt{ID: reducer(0, 0), Error: "killed"}, 4))
	if r.loss.Seen != 1 || r.loss.Hours != 7 {
		t.Errorf("after one that did not: %+v", r.loss)
	}
	// One that is replaced while it seems to run counts at once, and then no more.
	r.maps[1].live = map[int]context.CancelCauseFunc{0: func(error) {}}
	missing := lost(reducer(1, 1), 1, 0)
	missing.Report = reported
	end(t, r, missing)
	end(t, r, ran(Attempt{ID: mapper(1, 0), Error: "replaced"}, 8))
	if r.loss.Seen != 2 || r.loss.Hours != 7 {
		t.Errorf("after one that was replaced: %+v", r.loss)
	}
}
