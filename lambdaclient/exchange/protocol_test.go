package exchange

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
)

func TestWhatAProducerDoesAboutTheRecordThatIsThere(t *testing.T) {
	t.Parallel()
	record := func(attempt int, key string, partitions ...int) *commitRecord {
		r := &commitRecord{Attempt: attempt, Key: key}
		for _, p := range partitions {
			r.Partitions = append(r.Partitions, recordEntry{Partition: p, Size: 1, Offset: r.Size})
			r.Size++
		}
		return r
	}
	for _, tc := range []struct {
		name           string
		existing, ours *commitRecord
		replaces       []int
		want           recordStep
	}{
		{"one that cannot be read", nil, record(0, "a", 0), nil, recordReplace},
		{"our own, whose answer was lost", record(1, "a", 0, 1), record(1, "a", 0, 1), []int{0}, recordOurs},
		{"our own, by an earlier try", record(1, "a", 0, 1), record(1, "b", 1), nil, recordServes},
		{"an earlier attempt's, with all of ours", record(0, "a", 0, 1), record(1, "b", 1), nil, recordServes},
		{"an earlier attempt's, that lacks one", record(0, "a", 0), record(1, "b", 0, 1), nil, recordReplace},
		{"an earlier attempt's, known to be of no use", record(0, "a", 0, 1), record(1, "b", 1), []int{0}, recordReplace},
		{"another of no use", record(1, "a", 0, 1), record(2, "b", 1), []int{0}, recordServes},
		{"a later attempt's: we are the zombie", record(2, "a", 0, 1), record(1, "b", 0, 1), nil, recordServes},
		{"a later attempt's, which lacks what was acknowledged to it", record(2, "a", 0), record(1, "b", 0, 1), nil, recordServes},
	} {
		if got := onRecord(tc.existing, tc.ours, tc.replaces); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
}

func TestHowAReadGoesOn(t *testing.T) {
	t.Parallel()
	none, a, b := head{attempt: -1}, head{attempt: 0, size: 9, crc: 1}, head{attempt: 1, size: 9, crc: 1}
	other := head{attempt: 0, size: 9, crc: 2}
	for _, tc := range []struct {
		name string
		have head
		off  int64
		next head
		want joinStep
	}{
		{"the first source", none, 0, a, joinAdopt},
		{"nothing read yet, another attempt", a, 0, b, joinAdopt},
		{"nothing read yet, another announcement", a, 0, other, joinAdopt},
		{"the same attempt", a, 5, a, joinResume},
		{"another attempt", a, 5, b, joinCompare},
		{"the same attempt, another announcement", a, 5, other, joinMismatch},
	} {
		if got := join(tc.have, tc.off, tc.next); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
}

func TestHowAProducerTakesItsLeave(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		finished bool
		unacked  int
		saved    bool
		want     uint64
	}{
		{false, 0, false, closeGone}, {false, 2, false, closeGone}, {true, 0, false, closeDone}, {true, 0, true, closeDone},
		{true, 1, true, closeSaved}, {true, 1, false, closeGone},
	} {
		if code, why := farewell(tc.finished, tc.unacked, tc.saved); code != tc.want || why == "" {
			t.Errorf("%+v: %x, %q", tc, code, why)
		}
	}
}

// afterPut calls f after each PutObject of a key with the suffix, which has
// taken its effect; an error of f is what the caller gets to see.
func afterPut(suffix string, f func() error) func(*s3.Options) {
	return func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("TestAfterPut",
				func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
					out, md, err := next.HandleInitialize(ctx, in)
					if put, ok := in.Parameters.(*s3.PutObjectInput); ok && err == nil && strings.HasSuffix(aws.ToString(put.Key), suffix) {
						err = f()
					}
					return out, md, err
				}), middleware.Before)
		})
	}
}

func TestACommitWhoseAnswerIsLostIsStillThisAttempts(t *testing.T) {
	for _, attempt := range []int{0, 1} {
		f := newFixture(t, S3, 1, 2)
		var lost atomic.Int32
		f.store.Client = s3.New(f.store.Client.Options(), afterPut("/commit", func() error {
			if lost.Add(1) > 1 {
				return nil
			}
			return errors.New("the connection broke")
		}))
		p := f.producer(0, attempt)
		data := bytesOf(1000, "x")
		fill(t, p, data, data)
		finish(t, p)
		if r := wait(t, p); !r.Synced || !r.Won || lost.Load() == 0 {
			t.Errorf("attempt %d: %+v", attempt, r)
		}
		mustRead(t, f.consumer(1, 0), 0, data)
	}
}
