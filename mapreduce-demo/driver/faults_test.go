package driver_test

import (
	"strings"
	"testing"

	"github.com/bradawl/bradawl/lambdaclient/exchange"
	"github.com/bradawl/bradawl/mapreduce-demo/stage"
	"github.com/bradawl/bradawl/mapreduce-demo/task"
)

func TestMapperKilledAfterItFinishedAndBeforeItWasRead(t *testing.T) {
	t.Parallel()
	for _, mode := range []exchange.Mode{exchange.Direct, exchange.Auto} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, stage.NAT, 3, 2, mode, prose(t, 4, 2000, 1000))
			b.cfg.Hold = func(id task.ID) []task.Point {
				if id.Kind == task.Reduce {
					return []task.Point{task.Opening}
				}
				return nil
			}
			done := b.start()
			victim := task.ID{Kind: task.Map, Index: 1}
			environment := b.at(victim, task.Served)
			b.at(task.ID{Kind: task.Reduce, Index: 0}, task.Opening)
			b.at(task.ID{Kind: task.Reduce, Index: 1}, task.Opening)
			b.kill(environment)
			b.failed(victim)
			b.release(task.Reduce, 0, task.Opening)
			b.release(task.Reduce, 1, task.Opening)
			result := b.finish(done)
			got := attempts(result, task.Map, 1)
			if len(got) != 2 || got[0].Error == "" || got[1].Error != "" {
				t.Errorf("attempts of the mapper: %+v, want one that failed and one that did not", got)
			}
			if len(result.Notes) != 1 || !strings.Contains(result.Notes[0], "runs again as attempt 1") {
				t.Errorf("notes %q, want one about the second attempt", result.Notes)
			}
		})
	}
}

func TestMapperKilledAfterItSavedItsPartitionsOnS3(t *testing.T) {
	t.Parallel()
	b := newBench(t, stage.NAT, 2, 1, exchange.Auto, prose(t, 2, 2000, 1000))
	b.cfg.Policy.TimeToSync = 0 // write-through
	b.cfg.Hold = func(id task.ID) []task.Point {
		switch {
		case id.Kind == task.Reduce:
			return []task.Point{task.Opening}
		case id.Attempt > 0:
			return []task.Point{task.Started} // never released: S3 must do
		}
		return nil
	}
	done := b.start()
	victim := task.ID{Kind: task.Map, Index: 0}
	environment := b.at(victim, task.Served)
	b.at(task.ID{Kind: task.Reduce}, task.Opening)
	b.kill(environment)
	b.failed(victim)
	b.release(task.Reduce, 0, task.Opening)
	result := b.finish(done)
	reducer := attempts(result, task.Reduce, 0)
	if len(reducer) != 1 {
		t.Fatalf("%d attempts of the reducer, want 1", len(reducer))
	}
	if p := reducer[0].Report.Consumer.Partitions[0]; p.Source.Path != exchange.PathS3 || p.Source.Attempt != 0 {
		t.Errorf("the killed mapper's partition came from %s, want S3", p.Source)
	}
}

func TestReducerKilledMidway(t *testing.T) {
	t.Parallel()
	for _, mode := range []exchange.Mode{exchange.Direct, exchange.Auto, exchange.S3} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, stage.NAT, 3, 2, mode, prose(t, 3, 20_000, 15_000))
			victim := task.ID{Kind: task.Reduce, Index: 0}
			b.cfg.Hold = func(id task.ID) []task.Point {
				if id == victim {
					return []task.Point{task.Midway}
				}
				return nil
			}
			done := b.start()
			b.kill(b.at(victim, task.Midway))
			result := b.finish(done)
			got := attempts(result, task.Reduce, 0)
			if len(got) != 2 || got[0].Error == "" || got[1].Error != "" {
				t.Errorf("attempts of the reducer: %+v, want one that failed and one that did not", got)
			}
			for i := range 3 {
				if n := len(attempts(result, task.Map, i)); n != 1 {
					t.Errorf("mapper %d ran %d times, want once: it still had its partitions", i, n)
				}
			}
		})
	}
}

func TestReducerKilledBetweenCommitAndAnswer(t *testing.T) {
	t.Parallel()
	b := newBench(t, stage.Loopback, 2, 1, exchange.Direct, prose(t, 2, 1000, 500))
	victim := task.ID{Kind: task.Reduce, Index: 0}
	b.cfg.Hold = func(id task.ID) []task.Point {
		if id == victim {
			return []task.Point{task.Committed}
		}
		return nil
	}
	done := b.start()
	b.kill(b.at(victim, task.Committed))
	result := b.finish(done)
	got := attempts(result, task.Reduce, 0)
	if len(got) != 2 || got[1].Report.Output == nil || got[1].Report.Output.Written {
		t.Errorf("attempts of the reducer: %+v, want a second one that found the output", got)
	}
}

func TestRendezvousKilledAndRestartedBeforeTheLinksAreUp(t *testing.T) {
	t.Parallel()
	b := newBench(t, stage.NAT, 3, 2, exchange.Direct, prose(t, 3, 1000, 500))
	late := task.ID{Kind: task.Map, Index: 2}
	b.cfg.Hold = func(id task.ID) []task.Point {
		if id == late {
			return []task.Point{task.Started}
		}
		return nil
	}
	done := b.start()
	b.at(late, task.Started)
	for _, id := range []task.ID{{Kind: task.Map, Index: 0}, {Kind: task.Map, Index: 1}, {Kind: task.Reduce, Index: 0}, {Kind: task.Reduce, Index: 1}} {
		b.at(id, task.Joined)
	}
	b.stage.Rendezvous.Kill()
	if err := b.stage.Rendezvous.Restart(b.ctx); err != nil {
		t.Fatal(err)
	}
	b.release(task.Map, 2, task.Started)
	if result := b.finish(done); len(result.Attempts) != 5 {
		t.Errorf("%d attempts, want 5: nobody had to start again", len(result.Attempts))
	}
}

func TestRendezvousKilledWhilePartitionsAreOnTheirWay(t *testing.T) {
	t.Parallel()
	b := newBench(t, stage.NAT, 2, 2, exchange.Direct, prose(t, 2, 20_000, 15_000))
	b.cfg.Hold = func(id task.ID) []task.Point {
		if id.Kind == task.Reduce {
			return []task.Point{task.Midway}
		}
		return nil
	}
	done := b.start()
	b.at(task.ID{Kind: task.Reduce, Index: 0}, task.Midway)
	b.at(task.ID{Kind: task.Reduce, Index: 1}, task.Midway)
	b.stage.Rendezvous.Kill()
	b.release(task.Reduce, 0, task.Midway) // this one goes on without it
	if err := b.stage.Rendezvous.Restart(b.ctx); err != nil {
		t.Fatal(err)
	}
	b.release(task.Reduce, 1, task.Midway)
	if result := b.finish(done); len(result.Attempts) != 4 {
		t.Errorf("%d attempts, want 4: links do not need the rendezvous", len(result.Attempts))
	}
}

// cutMidway holds the reducer in the middle of its partitions, cuts the first
// mapper's way to the world for good, and lets the reducer go on.
func cutMidway(b *bench) <-chan outcome {
	// Much more than what is in flight when the link is cut.
	reducer, mapper := task.ID{Kind: task.Reduce}, task.ID{Kind: task.Map}
	b.cfg.Hold = func(id task.ID) []task.Point {
		if id == reducer {
			return []task.Point{task.Midway}
		}
		return nil
	}
	done := b.start()
	environment := b.at(mapper, task.Served)
	b.at(reducer, task.Midway)
	if err := b.stage.Site(environment).CutUplink(); err != nil {
		b.t.Fatal(err)
	}
	b.release(task.Reduce, 0, task.Midway)
	return done
}

func TestLinkCutMidwayGoesOnFromS3AtTheSameByte(t *testing.T) {
	t.Parallel()
	b := newBench(t, stage.NAT, 2, 1, exchange.Auto, prose(t, 2, 200_000, 2_000_000))
	b.cfg.Policy.TimeToSync = 0 // write-through
	result := b.finish(cutMidway(b))
	got := attempts(result, task.Reduce, 0)
	if len(got) != 1 {
		t.Fatalf("%d attempts of the reducer, want 1", len(got))
	}
	p := got[0].Report.Consumer.Partitions[0]
	if p.Source.Path != exchange.PathS3 || p.Direct == 0 || p.S3 == 0 || p.Direct+p.S3 != p.Bytes || p.Breaks == 0 {
		t.Errorf("the cut partition: %+v, want its bytes once, some by the link and the rest by S3", p)
	}
	if q := got[0].Report.Consumer.Partitions[1]; q.S3 != 0 {
		t.Errorf("the other partition: %+v, want it by its link", q)
	}
}

func TestLinkCutMidwayBeforeAnythingWasSavedRunsTheMapperAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, stage.NAT, 2, 1, exchange.Auto, prose(t, 2, 200_000, 2_000_000))
	result := b.finish(cutMidway(b))
	if got := attempts(result, task.Map, 0); len(got) != 2 {
		t.Errorf("%d attempts of the mapper that was cut off, want 2", len(got))
	}
	if len(result.Notes) == 0 || !strings.Contains(strings.Join(result.Notes, "\n"), "mapper 0 runs again as attempt 1") {
		t.Errorf("notes %q, want one that mapper 0 runs again", result.Notes)
	}
}
