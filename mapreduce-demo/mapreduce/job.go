package mapreduce

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Emitter takes the pairs that a Mapper or a Reducer produces. Key and value are
// encoded before Emit returns, so the caller may reuse their memory. An Emitter
// is not safe for concurrent use.
type Emitter[K, V any] interface {
	// Emit hands over one pair. After an error nothing more is taken and the
	// task fails with it.
	Emit(key K, value V) error
}

// Mapper turns one record into any number of pairs. A task makes one Mapper for
// itself and calls it from one goroutine, so it may keep scratch memory.
type Mapper[K, V any] interface {
	// Map gets one record, without its line ending. The record's bytes are
	// valid until Map returns.
	Map(ctx context.Context, record []byte, out Emitter[K, V]) error
}

// Reducer turns a key and all of its values into any number of output pairs.
// Like a Mapper it belongs to one task and one goroutine.
type Reducer[K, V any] interface {
	// Reduce is called once per key, in key order. Values that it leaves unread
	// are skipped. A key decoded without a copy is valid until Reduce returns.
	Reduce(ctx context.Context, key K, values *Values[V], out Emitter[K, V]) error
}

// MapperFunc makes a Mapper of a function.
type MapperFunc[K, V any] func(ctx context.Context, record []byte, out Emitter[K, V]) error

// Map calls f.
func (f MapperFunc[K, V]) Map(ctx context.Context, record []byte, out Emitter[K, V]) error {
	return f(ctx, record, out)
}

// ReducerFunc makes a Reducer of a function.
type ReducerFunc[K, V any] func(ctx context.Context, key K, values *Values[V], out Emitter[K, V]) error

// Reduce calls f.
func (f ReducerFunc[K, V]) Reduce(ctx context.Context, key K, values *Values[V], out Emitter[K, V]) error {
	return f(ctx, key, values, out)
}

// Job describes one kind of computation. All fields except Combine and Partition
// are needed. A Job is not changed by running and is safe for concurrent tasks.
type Job[K, V any] struct {
	// Name is what a task's payload calls the job by.
	Name string
	// Key and Value encode pairs between map and reduce.
	Key   Codec[K]
	Value Codec[V]
	// Mapper and Reducer make the task's own instance.
	Mapper  func() Mapper[K, V]
	Reducer func() Reducer[K, V]
	// Combine merges two values of one key on the map side. It must be
	// associative and commutative. Nil: every emitted pair travels.
	Combine func(a, b V) V
	// Partition picks the reducer for a key. Nil: PartitionByHash.
	Partition Partitioner
	// Format appends one pair of the output, line ending included.
	Format func(dst []byte, key K, value V) []byte
}

// Runner is a Job without its type parameters: what a worker needs to run a task.
type Runner interface {
	// JobName is the job's name.
	JobName() string
	// RunMap reads records until io.EOF and writes one sorted run per partition.
	RunMap(ctx context.Context, in RecordReader, open PartitionOpener, partitions int) (MapStats, error)
	// RunReduce merges runs and writes the formatted output.
	RunReduce(ctx context.Context, runs []io.Reader, out io.Writer) (ReduceStats, error)
}

// RecordReader yields one record after the other, and io.EOF after the last one.
// A record is valid until the next call.
type RecordReader interface {
	Next() ([]byte, error)
}

// PartitionOpener opens the place that a partition's run is written to. A map
// task opens every partition once, in order, and closes each before it opens the next.
type PartitionOpener func(partition int) (io.WriteCloser, error)

// MapStats counts what a map task did.
type MapStats struct {
	Records     int64   `json:"records"`      // records read
	RecordBytes int64   `json:"record_bytes"` // bytes in them, line endings not counted
	Emitted     int64   `json:"emitted"`      // pairs that the mapper emitted
	Pairs       int64   `json:"pairs"`        // pairs written, after combining
	RunBytes    []int64 `json:"run_bytes"`    // encoded bytes per partition
}

// ReduceStats counts what a reduce task did.
type ReduceStats struct {
	Pairs    int64 `json:"pairs"`     // pairs read from all runs
	RunBytes int64 `json:"run_bytes"` // encoded bytes read
	Keys     int64 `json:"keys"`      // distinct keys
	Emitted  int64 `json:"emitted"`   // pairs written
	OutBytes int64 `json:"out_bytes"` // formatted bytes written
}

// ErrJob says that a Job lacks something it needs to run.
var ErrJob = errors.New("incomplete job")

// JobName is j.Name.
func (j *Job[K, V]) JobName() string { return j.Name }

func (j *Job[K, V]) check() error {
	missing := ""
	switch {
	case j.Name == "":
		missing = "a name"
	case j.Key == nil || j.Value == nil:
		missing = "codecs"
	case j.Mapper == nil:
		missing = "a mapper"
	case j.Reducer == nil:
		missing = "a reducer"
	case j.Format == nil:
		missing = "an output format"
	default:
		return nil
	}
	return fmt.Errorf("%w: job %q needs %s", ErrJob, j.Name, missing)
}

// checkEvery is how many records or keys pass between two looks at the context.
const checkEvery = 1024

// RunMap implements Runner.
func (j *Job[K, V]) RunMap(ctx context.Context, in RecordReader, open PartitionOpener, partitions int) (MapStats, error) {
	var stats MapStats
	if err := j.check(); err != nil {
		return stats, err
	}
	if partitions < 1 {
		return stats, fmt.Errorf("%w: job %q cannot write %d partitions", ErrJob, j.Name, partitions)
	}
	c := newCollector(j)
	mapper := j.Mapper()
	for {
		if stats.Records%checkEvery == 0 && ctx.Err() != nil {
			return stats, context.Cause(ctx)
		}
		record, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return stats, err
		}
		stats.Records++
		stats.RecordBytes += int64(len(record))
		if err := mapper.Map(ctx, record, c); err != nil {
			return stats, fmt.Errorf("map record %d: %w", stats.Records, err)
		}
	}
	stats.Emitted = c.emitted
	stats.Pairs = int64(len(c.entries))
	sizes, err := c.flush(ctx, open, partitions)
	stats.RunBytes = sizes
	return stats, err
}

// RunReduce implements Runner.
func (j *Job[K, V]) RunReduce(ctx context.Context, runs []io.Reader, out io.Writer) (ReduceStats, error) {
	if err := j.check(); err != nil {
		return ReduceStats{}, err
	}
	r := newReduction(j, out)
	err := r.run(ctx, runs)
	return r.stats, err
}
