package driver_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/bradawl/bradawl/lambdaclient/exchange"
	"github.com/bradawl/bradawl/mapreduce-demo/driver"
	"github.com/bradawl/bradawl/mapreduce-demo/stage"
	"github.com/bradawl/bradawl/mapreduce-demo/task"
)

func TestEveryModeGivesTheOutputOfAnIndependentCount(t *testing.T) {
	t.Parallel()
	for _, mode := range []exchange.Mode{exchange.Direct, exchange.S3, exchange.Auto} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, stage.Loopback, 3, 2, mode, prose(t, 5, 2000, 900))
			result := b.finish(b.start())
			if len(result.Attempts) != 5 {
				t.Errorf("%d attempts, want 5", len(result.Attempts))
			}
			for _, a := range result.Attempts {
				if a.Error != "" || a.Report == nil || a.Billing.Billed <= 0 || a.Billing.MemoryMB == 0 {
					t.Errorf("attempt %s: %+v", a.ID, a)
				}
			}
		})
	}
}

func TestThroughNATsEveryLinkIsDirect(t *testing.T) {
	t.Parallel()
	const mappers, reducers = 8, 4
	b := newBench(t, stage.NAT, mappers, reducers, exchange.Direct, prose(t, 9, 3000, 2000))
	result := b.finish(b.start())
	links := 0
	for _, a := range result.Attempts {
		if a.Kind != task.Reduce {
			continue
		}
		for _, l := range a.Report.Consumer.Links {
			if l.Failure != "" || l.Path != "server_reflexive" && l.Path != "peer_reflexive" {
				t.Errorf("%s to %s: %+v", a.ID, l.Peer, l)
			}
			links++
		}
		if a.Report.Consumer.S3.Get.Requests != 0 {
			t.Errorf("%s read from S3 in direct mode", a.ID)
		}
	}
	if links != mappers*reducers {
		t.Errorf("%d links, want %d", links, mappers*reducers)
	}
}

func TestInputWithoutWordsGivesEmptyParts(t *testing.T) {
	t.Parallel()
	for _, text := range [][]string{{""}, {"...\n---", "", "\xff\xfe"}} {
		b := newBench(t, stage.Loopback, 2, 2, exchange.Direct, text)
		b.finish(b.start())
	}
}

func TestTasksBeyondTheConcurrencyLimitGoThroughS3(t *testing.T) {
	t.Parallel()
	b := newBench(t, stage.Loopback, 3, 2, exchange.Direct, prose(t, 3, 500, 100))
	b.cfg.Concurrency = 2
	result := b.finish(b.start())
	if result.Mode != exchange.S3 || len(result.Notes) != 1 || !strings.Contains(result.Notes[0], "concurrency of 2") {
		t.Errorf("mode %s, notes %q: want S3 and one note that says why", result.Mode, result.Notes)
	}
}

func TestATaskThatAlwaysFailsFailsTheJob(t *testing.T) {
	t.Parallel()
	b := newBench(t, stage.Loopback, 1, 1, exchange.S3, []string{"x"})
	b.cfg.Job = "nonsense"
	b.cfg.MaxAttempts = 2
	o := <-b.start()
	if !errors.Is(o.err, driver.ErrFailed) || strings.Contains(o.err.Error(), "\n") || !strings.Contains(o.err.Error(), `"nonsense"`) {
		t.Errorf("error %v, want one line that names the job", o.err)
	}
	if got := attempts(o.result, task.Map, 0); len(got) != 2 {
		t.Errorf("%d attempts, want 2", len(got))
	}
	if there, err := b.stage.Store.Exists(b.ctx, task.SuccessKey(b.cfg.Run)); there || err != nil {
		t.Errorf("a failed job has a success marker (%v)", err)
	}
}

func TestMissingInputFailsTheJobInOneLine(t *testing.T) {
	t.Parallel()
	b := newBench(t, stage.Loopback, 1, 1, exchange.S3, []string{"some words"})
	b.cfg.MaxAttempts = 1
	b.cfg.Splits[0].Ranges[0].Key = "input/gone"
	o := <-b.start()
	if !errors.Is(o.err, driver.ErrFailed) || !strings.Contains(o.err.Error(), "input/gone") || strings.Contains(o.err.Error(), "\n") {
		t.Errorf("error %v, want one line that names the object", o.err)
	}
}

func TestCancelingEndsARunAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, stage.Loopback, 2, 1, exchange.Direct, prose(t, 2, 100, 50))
	b.cfg.Hold = func(id task.ID) []task.Point { return []task.Point{task.Joined} }
	stop := errors.New("enough")
	ctx, cancel := context.WithCancelCause(b.ctx)
	b.ctx = ctx
	done := b.start()
	b.at(task.ID{Kind: task.Map, Index: 1}, task.Joined)
	cancel(stop)
	if o := <-done; !errors.Is(o.err, stop) {
		t.Errorf("error %v, want the cause of the cancellation", o.err)
	}
	if there, err := b.stage.Store.Exists(t.Context(), task.SuccessKey(b.cfg.Run)); there || err != nil {
		t.Errorf("a canceled job has a success marker (%v)", err)
	}
}

func TestSecondRunOnWarmEnvironments(t *testing.T) {
	t.Parallel()
	b := newBench(t, stage.Loopback, 2, 2, exchange.Direct, prose(t, 2, 500, 100))
	b.finish(b.start())
	for n := range 3 {
		url, err := b.stage.Rendezvous.URL(fmt.Sprint("again", n), patience)
		if err != nil {
			t.Fatal(err)
		}
		b.cfg.Run, b.cfg.Rendezvous = fmt.Sprint("again", n), url
		warm := 0
		for _, a := range b.finish(b.start()).Attempts {
			if !a.Report.Cold {
				warm++
			}
		}
		if warm == 0 {
			t.Errorf("run %d: no environment was warm", n)
		}
	}
}
