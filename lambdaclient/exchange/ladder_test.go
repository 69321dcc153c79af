package exchange

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
)

// Sizes around every boundary that the code has.
func edgeSizes() []int {
	return []int{0, 1, 1000, chunkSize - 1, chunkSize, chunkSize + 1, 3*chunkSize + 5, 700_001}
}

func TestDirectDeliversEveryPartitionAndTouchesNoS3(t *testing.T) {
	for _, mode := range []Mode{Direct, Auto} {
		t.Run(string(mode), func(t *testing.T) {
			const producers, consumers = 3, 8
			f := newFixture(t, mode, producers, consumers)
			data := make([][][]byte, producers)
			var ps []*Producer
			var cs []*Consumer
			for i := range producers {
				for j, n := range edgeSizes() {
					data[i] = append(data[i], bytesOf(n, fmt.Sprint(i, j)))
				}
				ps = append(ps, f.producer(i, 0))
			}
			for j := range consumers {
				cs = append(cs, f.consumer(j, 0))
			}
			for _, c := range cs { // a busy machine may be slower than mode Auto's patience with links
				until(t, func() bool { return len(c.Report().Links) == producers })
			}
			var wg sync.WaitGroup
			for i, p := range ps {
				wg.Go(func() {
					fill(t, p, data[i]...)
					if err := p.Finish(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			for j, c := range cs {
				for i := range producers {
					wg.Go(func() {
						r, err := c.Open(t.Context(), i)
						if err != nil {
							t.Error(err)
							return
						}
						got, err := io.ReadAll(r)
						if err != nil || !bytes.Equal(got, data[i][j]) {
							t.Errorf("producer %d to consumer %d: %d bytes of %d, error %v", i, j, len(got), len(data[i][j]), err)
						}
						if r.Source() != (Source{i, 0, PathDirect}) {
							t.Errorf("source %v", r.Source())
						}
					})
				}
			}
			wg.Wait()
			for _, c := range cs {
				mustAck(t, c)
				r := c.Report()
				if len(r.Acked) != producers || len(r.Links) != producers || r.Direct.Requests != producers || r.S3 != (S3Usage{}) {
					t.Errorf("consumer's report %+v", r)
				}
				for i, p := range r.Partitions {
					if size := int64(len(data[i][c.cfg.Consumer])); !p.Done || p.Bytes != size || p.Direct != size || p.S3 != 0 || p.Breaks != 0 {
						t.Errorf("partition report %+v", p)
					}
				}
			}
			for i, p := range ps {
				r := wait(t, p)
				size := int64(0)
				for _, b := range data[i] {
					size += int64(len(b))
				}
				if r.Acked != consumers || r.Sync != SyncNone || r.Synced || r.S3 != (S3Usage{}) || r.Lost != 0 ||
					r.Bytes != size || r.Direct != (Count{consumers, size}) || len(r.Links) != consumers {
					t.Errorf("producer's report %+v", r)
				}
			}
		})
	}
}

func TestS3ModeNeedsNoNetworkAndTwoPutsPerProducer(t *testing.T) {
	const producers, consumers = 2, 3
	f := newFixture(t, S3, producers, consumers)
	var cs []*Consumer
	for j := range consumers {
		cs = append(cs, f.consumer(j, 0))
	}
	var wg sync.WaitGroup
	for j, c := range cs { // they wait, polling, for what is not there yet
		for i := range producers {
			wg.Go(func() {
				want := bytesOf(100_000*j, fmt.Sprint(i, j))
				r, err := c.Open(t.Context(), i)
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(r)
				if err != nil || !bytes.Equal(got, want) || r.Source().Path != PathS3 {
					t.Errorf("%d bytes of %d from %v, error %v", len(got), len(want), r.Source(), err)
				}
			})
		}
	}
	for i := range producers {
		p := f.producer(i, 0)
		var data [][]byte
		for j := range consumers {
			data = append(data, bytesOf(100_000*j, fmt.Sprint(i, j)))
		}
		fill(t, p, data...)
		finish(t, p)
		if len(f.record(i).Partitions) != consumers {
			t.Errorf("record %+v", f.record(i))
		}
		r := wait(t, p)
		if r.Sync != SyncWriteThrough || !r.Synced || !r.Won || r.S3.Put.Requests != 2 || r.S3.Put.Bytes <= r.Bytes || r.S3.Get.Requests != 0 {
			t.Errorf("report %+v", r)
		}
	}
	wg.Wait()
	for j, c := range cs {
		mustAck(t, c)
		r := c.Report()
		if r.Direct != (Count{}) || r.S3.Put.Requests != 0 || r.S3.Get.Bytes < int64(producers*100_000*j) || len(r.Acked) != 0 {
			t.Errorf("report %+v", r)
		}
	}
}

func TestBigAttemptGoesUpInPartsAndComesBackWhole(t *testing.T) {
	f := newFixture(t, S3, 1, 2)
	p := f.producer(0, 0, func(c *ProducerConfig) { c.MemoryBudget = 1 << 20 })
	a, b := bytesOf(multipartOver/2+12345, "a"), bytesOf(multipartOver/2+77, "b")
	fill(t, p, a, b)
	finish(t, p)
	r := wait(t, p)
	if r.S3.Put.Requests != 6 || r.Spilled < 15<<20 { // create, 3 parts, complete, and the record
		t.Errorf("report %+v", r)
	}
	if rate := f.store.uploadRate(); rate == assumedRate {
		t.Error("the upload's rate was not measured")
	}
	mustRead(t, f.consumer(0, 0), 0, a)
	mustRead(t, f.consumer(1, 0), 0, b)
}

func TestFailedLinkSyncsAtOnceAndTheConsumerReadsFromS3(t *testing.T) {
	f := newFixture(t, Auto, 1, 2)
	f.hub.noLink = func(consumer, _ string) error {
		if consumer == "consumer-0-0" {
			return errNAT
		}
		return nil
	}
	f.hub.noConnect = f.hub.noLink
	p := f.producer(0, 0)
	c0, c1 := f.consumer(0, 0), f.consumer(1, 0)
	a, b := bytesOf(300_000, "a"), bytesOf(5000, "b")
	fill(t, p, a, b)
	finish(t, p)
	if src := mustRead(t, c0, 0, a); src.Path != PathS3 {
		t.Errorf("consumer 0 read from %v", src)
	}
	if src := mustRead(t, c1, 0, b); src.Path != PathDirect {
		t.Errorf("consumer 1 read from %v", src)
	}
	mustAck(t, c0)
	mustAck(t, c1)
	// Consumer 0 cannot acknowledge, and need not: its data is on S3.
	r := wait(t, p)
	if r.Sync != SyncLink || !r.Won || r.Acked != 1 {
		t.Errorf("report %+v", r)
	}
}

func TestOnlyWhatIsNotAcknowledgedIsWritten(t *testing.T) {
	f := newFixture(t, Auto, 1, 3)
	p := f.producer(0, 0)
	c0, c1 := f.consumer(0, 0), f.consumer(1, 0)
	a, b, c := bytesOf(100_000, "a"), bytesOf(200_000, "b"), bytesOf(300_000, "c")
	fill(t, p, a, b, c)
	finish(t, p)
	mustRead(t, c1, 0, b)
	mustAck(t, c1)
	mustRead(t, c0, 0, a)
	if err := c0.Close(); err != nil { // without an acknowledgement: it has failed
		t.Fatal(err)
	}
	c2 := f.consumer(2, 0, func(c *ConsumerConfig) { c.Mode, c.Network = S3, nil })
	mustRead(t, c2, 0, c)
	rec := f.record(0)
	if len(rec.Partitions) != 2 || rec.Size != 400_000 || rec.Partitions[0].Partition != 0 || rec.Partitions[1].Partition != 2 {
		t.Errorf("record %+v", rec)
	}
	if got := f.object(rec.Key, nil); !bytes.Equal(got, append(bytes.Clone(a), c...)) {
		t.Error("the object is not the partitions back to back")
	}
}

// cutAfter cuts the first link on which so many bytes were read.
func (f *fixture) cutAfter(n int64) *atomic.Int32 {
	var cuts atomic.Int32
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	f.hub.onRead = func(l *testLink, off int64, b []byte) {
		if off+int64(len(b)) >= n && cuts.CompareAndSwap(0, 1) {
			l.cut()
		}
	}
	return &cuts
}

func TestBrokenReadGoesOnFromS3AtTheSameByte(t *testing.T) {
	f := newFixture(t, Auto, 1, 2)
	f.hub.noConnect = func(string, string) error { return errNAT }
	p := f.producer(0, 0)
	cuts := f.cutAfter(400_000)
	c := f.consumer(1, 0)
	data := bytesOf(1_000_000, "x")
	fill(t, p, bytesOf(1234, "other"), data)
	finish(t, p)
	if src := mustRead(t, c, 0, data); src != (Source{0, 0, PathS3}) {
		t.Errorf("read from %v", src)
	}
	if cuts.Load() != 1 {
		t.Fatal("the link was not cut")
	}
	r := c.Report()
	part := r.Partitions[0]
	if part.Direct == 0 || part.Direct >= int64(len(data)) || part.Direct%chunkSize != 0 || part.Breaks != 1 {
		t.Errorf("partition report %+v", part)
	}
	if part.Direct+part.S3 != int64(len(data)) {
		t.Errorf("%d + %d bytes were received of %d", part.Direct, part.S3, len(data))
	}
	record := int64(len(f.object(commitKey(f.shuffle.Job, 0), nil)))
	if r.S3.Get.Bytes > part.S3+3*record {
		t.Errorf("%d bytes from S3, for %d of the partition", r.S3.Get.Bytes, part.S3)
	}
	pr := p.Report()
	if pr.Sync != SyncLink || pr.Lost != 1 {
		t.Errorf("producer's report %+v", pr)
	}
}

func TestBrokenReadGoesOnOverANewLinkAtTheSameByte(t *testing.T) {
	f := newFixture(t, Direct, 1, 1)
	p := f.producer(0, 0)
	f.cutAfter(400_000)
	c := f.consumer(0, 0)
	data := bytesOf(1_000_000, "x")
	fill(t, p, data)
	finish(t, p)
	mustRead(t, c, 0, data)
	part := c.Report().Partitions[0]
	if part.Direct != int64(len(data)) || part.Breaks != 1 || !part.Done {
		t.Errorf("partition report %+v", part)
	}
	mustAck(t, c)
	if r := wait(t, p); r.Acked != 1 || r.Direct.Requests != 2 {
		t.Errorf("report %+v", r)
	}
}

func TestDirectModeSaysThatALinkCannotBeHad(t *testing.T) {
	f := newFixture(t, Direct, 1, 1)
	f.hub.noLink = func(string, string) error { return errNAT }
	f.hub.noConnect = f.hub.noLink
	p := f.producer(0, 0, func(c *ProducerConfig) { c.Policy.TimeToLive = 0 })
	c := f.consumer(0, 0)
	fill(t, p, []byte("x"))
	finish(t, p)
	_, err := c.Open(within(t), 0)
	if le, ok := errors.AsType[*LinkError](err); !ok || !errors.Is(err, errNAT) || le.Peer != "producer-0-0" {
		t.Fatalf("got %v, want a LinkError", err)
	}
	_, err = p.Wait(within(t))
	if ue, ok := errors.AsType[*UnsavedError](err); !ok || len(ue.Partitions) != 1 {
		t.Fatalf("got %v, want an UnsavedError", err)
	}
}

func TestProducerThatLeavesAfterItsSyncIsReplacedByS3InMidRead(t *testing.T) {
	f := newFixture(t, Auto, 1, 1)
	p := f.producer(0, 0, func(c *ProducerConfig) { c.Policy = Policy{TimeToSync: 0, TimeToLive: 0} })
	c := f.consumer(0, 0)
	until(t, func() bool { return len(c.Report().Links) == 1 })
	data := bytesOf(6<<20, "x") // more than the windows take
	fill(t, p, data)
	finish(t, p)
	r := open(t, c, 0)
	if r.Source().Path != PathDirect {
		t.Fatalf("reading from %v", r.Source())
	}
	head := make([]byte, 100_000)
	if _, err := io.ReadFull(r, head); err != nil {
		t.Fatal(err)
	}
	wait(t, p)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(append(head, rest...), data) {
		t.Error("the bytes differ")
	}
	part := c.Report().Partitions[0]
	if part.Source.Path != PathS3 || part.Direct+part.S3 != int64(len(data)) {
		t.Errorf("partition report %+v", part)
	}
	for _, l := range c.Report().Links {
		if l.Again {
			t.Error("a link was made anew to a producer that had said goodbye")
		}
	}
}

func TestRequestBeforeFinishWaits(t *testing.T) {
	f := newFixture(t, Direct, 1, 1)
	p := f.producer(0, 0)
	c := f.consumer(0, 0)
	opened := make(chan *Reader)
	go func() {
		r, err := c.Open(t.Context(), 0)
		if err != nil {
			t.Error(err)
		}
		opened <- r
	}()
	until(t, func() bool { return c.Report().Direct.Requests > 0 }) // it is on its way
	select {
	case <-opened:
		t.Fatal("opened before Finish")
	default:
	}
	fill(t, p, []byte("late"))
	finish(t, p)
	r := <-opened
	if b, err := io.ReadAll(r); err != nil || string(b) != "late" {
		t.Fatalf("%q, %v", b, err)
	}
}

func TestCanceledOpenAndRead(t *testing.T) {
	f := newFixture(t, Auto, 2, 1)
	p := f.producer(0, 0)
	c := f.consumer(0, 0)
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	go func() { _, err := c.Open(ctx, 1); errs <- err }()
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("open: %v", err)
	}
	fill(t, p, bytesOf(6<<20, "x"))
	finish(t, p)
	r := open(t, c, 0)
	if _, err := r.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	if _, err := io.ReadAll(r); !errors.Is(err, ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	r = open(t, c, 0)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, ErrClosed) {
		t.Errorf("read after the consumer's close: %v", err)
	}
	if _, err := c.Open(t.Context(), 0); !errors.Is(err, ErrClosed) {
		t.Errorf("open after the consumer's close: %v", err)
	}
	if err := c.Ack(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("ack after the consumer's close: %v", err)
	}
}
