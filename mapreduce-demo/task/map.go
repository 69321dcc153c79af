package task

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/bradawl/bradawl/lambdaclient/exchange"
	"github.com/bradawl/bradawl/mapreduce-demo/input"
)

// runMap reads the split, maps it and serves the partitions until nobody needs
// them any more.
func (t *running) runMap(ctx context.Context) error {
	network, err := t.signIn(ctx)
	if err != nil {
		return err
	}
	producer, err := exchange.NewProducer(ctx, exchange.ProducerConfig{
		Shuffle: t.shuffle(), Producer: t.Index, Attempt: t.Attempt,
		Mode: t.Mode, Policy: t.Policy, Since: t.begin, Store: t.exchangeStore(), Network: network,
		Replaces: t.Replaces,
	})
	if err != nil {
		return err
	}
	defer func() {
		report := producer.Report()
		t.report.Producer = &report
		t.report.Phases.Punch = slowest(report.Links)
		producer.Close()
	}()
	if err := t.pass(ctx, Joined); err != nil {
		return err
	}
	if err := t.mapSplit(ctx, producer); err != nil {
		return err
	}
	if err := t.pass(ctx, Mapped); err != nil {
		return err
	}
	start := time.Now()
	if err := producer.Finish(ctx); err != nil {
		return fmt.Errorf("finish the partitions: %w", err)
	}
	t.report.Phases.Transfer = time.Since(start)
	if err := t.pass(ctx, Served); err != nil {
		return err
	}
	start = time.Now()
	err = t.serve(ctx, producer)
	t.report.Phases.Serve = time.Since(start)
	return err
}

// mapSplit runs the mapper over the split into the producer's partitions.
func (t *running) mapSplit(ctx context.Context, producer *exchange.Producer) error {
	start := time.Now()
	in, err := input.NewReader(ctx, t.Split, func(ctx context.Context, r input.Range, dst []byte) error {
		return t.store.ReadAt(ctx, r.Key, r.Offset, dst)
	})
	if err != nil {
		return err
	}
	defer in.Close()
	stats, err := t.job.RunMap(ctx, in, func(p int) (io.WriteCloser, error) {
		return producer.Partition(p), nil
	}, t.Reducers)
	t.report.Map = &stats
	t.report.Phases.Read = in.Waited()
	t.report.Phases.Map = time.Since(start) - in.Waited()
	return err
}

// overEvery is how often a map task that serves looks whether the run is over.
const overEvery = time.Second

var errRunOver = errors.New("the run is over")

// serve stays until the producer may leave. Once the run is over it leaves
// without being acknowledged: after a re-run, reducers that were done before do
// not come back to acknowledge.
func (t *running) serve(ctx context.Context, producer *exchange.Producer) error {
	waiting, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if t.await(waiting, SuccessKey(t.Run), overEvery) == nil {
			stop(errRunOver)
		}
	}()
	_, err := producer.Wait(waiting)
	over := context.Cause(waiting) == errRunOver
	stop(nil)
	<-watched
	if over {
		return nil
	}
	return err
}

// slowest is how long it took until the last link was up.
func slowest(links []exchange.LinkResult) time.Duration {
	var d time.Duration
	for _, l := range links {
		if !l.Again {
			d = max(d, l.Connect)
		}
	}
	return d
}
