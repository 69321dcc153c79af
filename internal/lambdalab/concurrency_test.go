package lambdalab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

func TestConcurrencyIsLimited(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{Concurrency: 3})
	b.function("", Function{Name: "reserved", Concurrency: 2})
	b.function("", Function{Name: "one"})
	b.function("", Function{Name: "two"})
	gate := filepath.Join(t.TempDir(), "gate")
	var results []func() (*lambda.InvokeOutput, error)
	hold := func(name string) {
		before := len(b.svc.Environments())
		results = append(results, b.inBackground(input(name, command{Do: "meet", Text: gate})))
		b.await(inState(Busy, before+1))
	}
	refused := func(name string, want types.ThrottleReason) {
		t.Helper()
		_, err := b.client.Invoke(t.Context(), input(name, command{}))
		var throttled *types.TooManyRequestsException
		if !errors.As(err, &throttled) || throttled.Reason != want || throttled.ErrorMessage() != "Rate Exceeded." {
			t.Errorf("%s: got %v (%+v), want %s", name, err, throttled, want)
		}
	}
	hold("reserved")
	hold("reserved")
	refused("reserved", types.ThrottleReasonReservedFunctionConcurrentInvocationLimitExceeded)
	hold("one") // the account's limit leaves one
	refused("two", types.ThrottleReasonConcurrentInvocationLimitExceeded)
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, result := range results {
		if _, err := result(); err != nil {
			t.Error(err)
		}
	}
	b.succeed("two", command{}) // idle environments do not count
	b.succeed("reserved", command{})
}

func TestManyInvocationsAtOnce(t *testing.T) {
	t.Parallel()
	const n = 64
	b := newBench(t, Config{})
	name := b.function("", Function{})
	gate := filepath.Join(t.TempDir(), "gate")
	var results []func() (*lambda.InvokeOutput, error)
	for i := range n {
		results = append(results, b.inBackground(input(name, command{Do: "meet", Text: gate, N: i})))
	}
	begun := time.Now()
	envs := b.await(inState(Busy, n))
	t.Logf("%d environments were started in %s", n, time.Since(begun))
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	pids := make(map[int]bool)
	for _, result := range results {
		out, err := result()
		if err != nil {
			t.Fatal(err)
		}
		pids[b.read(out).PID] = true
	}
	if len(pids) != n || len(envs) != n {
		t.Errorf("%d processes in %d environments", len(pids), len(envs))
	}
	b.await(inState(Idle, n))
	if got := len(b.svc.Reports()); got != n {
		t.Errorf("%d reports", got)
	}
}

func TestEventsAreQueued(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{Queue: 2})
	name := b.function("", Function{Concurrency: 1})
	dir := t.TempDir()
	event := func(i int) error {
		in := input(name, command{Do: "meet", Text: filepath.Join(dir, fmt.Sprint(i))})
		in.InvocationType = types.InvocationTypeEvent
		out, err := b.client.Invoke(t.Context(), in)
		if err == nil && (out.StatusCode != http.StatusAccepted || len(out.Payload) > 0) {
			err = fmt.Errorf("got status %d and %q", out.StatusCode, out.Payload)
		}
		return err
	}
	// One runs, one waits for the limit, two are in the queue.
	var accepted int
	for accepted < 4 {
		if err := event(accepted); err == nil {
			accepted++
		} else if throttled := new(types.TooManyRequestsException); !errors.As(err, &throttled) {
			t.Fatal(err)
		}
	}
	if err := event(4); err == nil {
		t.Error("the queue has no bound")
	}
	for i := range 4 { // in their order, one at a time
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.awaitReports(4)
	for _, r := range b.svc.Reports() {
		if r.ErrorType != "" || r.Environment != b.svc.Reports()[0].Environment {
			t.Errorf("report %+v", r)
		}
	}
}

// awaitReports waits until n invocations have finished and left their slots.
func (b *bench) awaitReports(n int) {
	b.Helper()
	for {
		b.svc.mu.Lock()
		got, running, changed := len(b.svc.reports), b.svc.running, b.svc.changed
		for _, fn := range b.svc.functions {
			running += fn.running
		}
		b.svc.mu.Unlock()
		if got >= n && running == 0 {
			return
		}
		select {
		case <-changed:
		case <-b.Context().Done():
			b.Fatalf("%d of %d invocations have finished", got, n)
		}
	}
}

func TestFailedEventsAreRetried(t *testing.T) {
	t.Parallel()
	for _, retries := range []int{0, 2} {
		t.Run(fmt.Sprint(retries), func(t *testing.T) {
			b := newBench(t, Config{})
			name := b.function("", Function{AsyncRetries: retries, RetryDelay: time.Millisecond})
			in := input(name, command{Do: "fail", Text: "no luck"})
			in.InvocationType = types.InvocationTypeEvent
			if _, err := b.client.Invoke(t.Context(), in); err != nil {
				t.Fatal(err)
			}
			b.awaitReports(retries + 1)
			// A further attempt would come before an event that is queued now.
			in = input(name, command{})
			in.InvocationType = types.InvocationTypeEvent
			if _, err := b.client.Invoke(t.Context(), in); err != nil {
				t.Fatal(err)
			}
			b.awaitReports(retries + 2)
			reports := b.svc.Reports()
			for i, r := range reports[:retries+1] {
				if r.RequestID != reports[0].RequestID || r.ErrorType != "errorString" {
					t.Errorf("attempt %d: %+v", i, r)
				}
			}
			if last := reports[retries+1]; last.ErrorType != "" {
				t.Errorf("one attempt too many: %+v", last)
			}
		})
	}
}

func TestInvocationGoesOnWithoutItsClient(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	name := b.function("", Function{})
	gate := filepath.Join(t.TempDir(), "gate")
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := b.client.Invoke(ctx, input(name, command{Do: "meet", Text: gate}))
		left <- err
	}()
	b.await(inState(Busy, 1))
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.await(inState(Idle, 1))
	if r := b.svc.Reports(); len(r) != 1 || r[0].ErrorType != "" || aws.ToString(&r[0].RequestID) == "" {
		t.Errorf("reports %+v", r)
	}
}
