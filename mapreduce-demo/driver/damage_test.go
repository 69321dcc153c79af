package driver_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/bradawl/bradawl/lambdaclient/exchange"
	"github.com/bradawl/bradawl/mapreduce-demo/stage"
	"github.com/bradawl/bradawl/mapreduce-demo/task"
)

// damage changes the only object of a mapper's partitions, or its commit record.
func (b *bench) damage(mapper int, suffix string, change func([]byte)) {
	b.t.Helper()
	dir := fmt.Sprintf("/%s/shuffle/%d/", b.cfg.Run, mapper) // below one of the spread prefixes
	bucket := b.stage.Store.Bucket()
	list, err := b.stage.S3.Client().ListObjectsV2(b.ctx, &s3.ListObjectsV2Input{Bucket: &bucket})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, o := range list.Contents {
		if !strings.Contains("/"+*o.Key, dir) || !strings.HasSuffix(*o.Key, suffix) {
			continue
		}
		text := []byte(b.object(*o.Key))
		change(text)
		if err := b.stage.Store.Put(b.ctx, *o.Key, text); err != nil {
			b.t.Fatal(err)
		}
		return
	}
	b.t.Fatalf("no object %s...%s", dir, suffix)
}

func TestADamagedObjectRunsTheMapperAgain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, suffix string
		change       func([]byte)
	}{
		{"a byte of the merge's structure", ".data", func(b []byte) { b[0] ^= 0xff }},
		{"a byte in the middle", ".data", func(b []byte) { b[len(b)/4] ^= 0x01 }},
		{"the commit record", "commit", func(b []byte) { b[0] = '?' }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, stage.Loopback, 2, 2, exchange.S3, prose(t, 2, 2000, 1000))
			b.cfg.Hold = func(id task.ID) []task.Point {
				if id.Kind == task.Reduce && id.Attempt == 0 {
					return []task.Point{task.Opening}
				}
				return nil
			}
			done := b.start()
			b.at(task.ID{Kind: task.Reduce}, task.Opening)
			b.at(task.ID{Kind: task.Reduce, Index: 1}, task.Opening)
			b.damage(1, test.suffix, test.change)
			b.release(task.Reduce, 0, task.Opening)
			b.release(task.Reduce, 1, task.Opening)
			result := b.finish(done)
			if got := attempts(result, task.Map, 1); len(got) != 2 {
				t.Errorf("%d attempts of the mapper, want 2", len(got))
			}
			// One of the reducers says that the mapper is lost; the other may find the new attempt's data while it still looks.
			if got := len(attempts(result, task.Reduce, 0)) + len(attempts(result, task.Reduce, 1)); got < 3 || got > 4 {
				t.Errorf("%d attempts of both reducers, want 3 or 4", got)
			}
		})
	}
}

// TestAStoppedMapperIsReplacedAlthoughItsInvocationGoesOn: as many tasks as there
// is room for, and one that neither works nor ends.
func TestAStoppedMapperIsReplacedAlthoughItsInvocationGoesOn(t *testing.T) {
	t.Parallel()
	b := newBench(t, stage.Loopback, 2, 1, exchange.Auto, prose(t, 2, 2000, 1000))
	b.cfg.Hold = func(id task.ID) []task.Point {
		if id.Kind == task.Reduce && id.Attempt == 0 {
			return []task.Point{task.Opening}
		}
		return nil
	}
	done := b.start()
	victim := task.ID{Kind: task.Map}
	environment := b.at(victim, task.Served)
	b.at(task.ID{Kind: task.Reduce}, task.Opening)
	if err := b.stage.Lambda.Kill(environment, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b.release(task.Reduce, 0, task.Opening)
	result := b.finish(done)
	if got := attempts(result, task.Map, 0); len(got) != 2 {
		t.Errorf("%d attempts of the mapper, want 2", len(got))
	}
}
