package exchange

import (
	"bytes"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"
)

func TestCorruptedFrameIsFetchedAgain(t *testing.T) {
	f := newFixture(t, Direct, 1, 1)
	var flips atomic.Int32
	f.hub.onRead = func(_ *testLink, off int64, b []byte) {
		if off > 200_000 && flips.Add(1) == 1 {
			b[len(b)/2] ^= 0x10
		}
	}
	p := f.producer(0, 0)
	c := f.consumer(0, 0)
	data := bytesOf(1_000_000, "x")
	fill(t, p, data)
	finish(t, p)
	mustRead(t, c, 0, data)
	if part := c.Report().Partitions[0]; part.Breaks != 1 || part.Direct != int64(len(data)) {
		t.Errorf("partition report %+v", part)
	}
}

func TestLinkThatAlwaysCorrupts(t *testing.T) {
	corrupt := func(_ *testLink, off int64, b []byte) {
		if off > 100_000 {
			for i := range b {
				b[i] ^= 0x55
			}
		}
	}
	data := bytesOf(1_000_000, "x")
	t.Run("direct", func(t *testing.T) {
		f := newFixture(t, Direct, 1, 1)
		f.hub.onRead = corrupt
		p := f.producer(0, 0)
		c := f.consumer(0, 0)
		fill(t, p, data)
		finish(t, p)
		r := open(t, c, 0)
		got, err := io.ReadAll(r)
		if lost := wantLost(t, err, 0); !errors.Is(lost, ErrProtocol) {
			t.Errorf("the cause is %v", lost.Err)
		}
		if !bytes.HasPrefix(data, got) {
			t.Error("wrong bytes were handed on")
		}
	})
	t.Run("auto", func(t *testing.T) {
		f := newFixture(t, Auto, 1, 1)
		f.hub.onRead = corrupt
		p := f.producer(0, 0, func(c *ProducerConfig) { c.Policy.TimeToSync = 0 })
		c := f.consumer(0, 0)
		fill(t, p, data)
		finish(t, p)
		if src := mustRead(t, c, 0, data); src.Path != PathS3 {
			t.Errorf("read from %v", src)
		}
	})
}

func TestWrongMemoryOfTheProducerIsFound(t *testing.T) {
	f := newFixture(t, Direct, 1, 1)
	p := f.producer(0, 0)
	c := f.consumer(0, 0)
	fill(t, p, bytesOf(200_000, "x"))
	finish(t, p)
	p.parts[0].chunks[1].mem[7] ^= 1 // after its checksum was taken
	for range maxStrikes {
		_, err := io.ReadAll(open(t, c, 0))
		if ce, ok := errors.AsType[*ChecksumError](err); !ok || ce.Source.Path != PathDirect {
			t.Fatalf("got %v, want a ChecksumError", err)
		}
	}
	_, err := c.Open(within(t), 0)
	wantLost(t, err, 0)
	p1 := f.producer(0, 1)
	fill(t, p1, bytesOf(200_000, "x"))
	finish(t, p1)
	mustRead(t, c, 0, bytesOf(200_000, "x"))
}

func TestCorruptedObjectOnS3(t *testing.T) {
	data := bytesOf(300_000, "x")
	cases := []struct {
		name   string
		change func([]byte) []byte
		reads  bool // gives bytes, and a ChecksumError at the end
	}{
		{"a bit flipped", func(b []byte) []byte { b[123_456] ^= 4; return b }, true},
		{"cut short", func(b []byte) []byte { return b[:100_000] }, false},
		{"cut to nothing", func([]byte) []byte { return []byte{} }, false},
		{"deleted", func([]byte) []byte { return nil }, false},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, S3, 1, 2)
			p := f.producer(0, 0)
			fill(t, p, data, data)
			finish(t, p)
			f.object(f.record(0).Key, tc.change)
			c := f.consumer(0, 0)
			for range maxStrikes {
				if !tc.reads {
					break
				}
				_, err := io.ReadAll(open(t, c, 0))
				if ce, ok := errors.AsType[*ChecksumError](err); !ok || ce.Source != (Source{0, 0, PathS3}) {
					t.Fatalf("got %v, want a ChecksumError", err)
				}
			}
			_, err := c.Open(within(t), 0)
			wantLost(t, err, 0)
			// As LostError says: another attempt, which replaces the first.
			p1 := f.producer(0, 1, func(c *ProducerConfig) { c.Replaces = []int{0} })
			fill(t, p1, data, data)
			finish(t, p1)
			if r := wait(t, p1); !r.Won {
				t.Errorf("report %+v", r)
			}
			mustRead(t, c, 0, data)
			mustRead(t, f.consumer(1, 0), 0, data)
		})
	}
}

func TestBadCommitRecord(t *testing.T) {
	f := newFixture(t, S3, 1, 1)
	p := f.producer(0, 0)
	fill(t, p, []byte("x"))
	finish(t, p)
	f.object(commitKey(f.shuffle.Job, 0), func([]byte) []byte { return []byte(`{"version":1}`) })
	c := f.consumer(0, 0)
	_, err := c.Open(within(t), 0)
	if lost := wantLost(t, err); !errors.Is(lost, ErrRecord) {
		t.Errorf("the cause is %v", lost.Err)
	}
	p1 := f.producer(0, 1)
	fill(t, p1, []byte("x"))
	finish(t, p1)
	mustRead(t, c, 0, []byte("x"))
}

func TestFirstCommitWinsAndLaterAttemptsDoNoHarm(t *testing.T) {
	f := newFixture(t, S3, 1, 1)
	p0, p1, p2 := f.producer(0, 0), f.producer(0, 1), f.producer(0, 2)
	for _, p := range []*Producer{p1, p0, p2} {
		fill(t, p, []byte{byte('0' + p.cfg.Attempt)})
	}
	finish(t, p1)
	finish(t, p0)
	finish(t, p2)
	for _, p := range []*Producer{p0, p1, p2} {
		if r := wait(t, p); r.Won != (p == p1) || !r.Synced {
			t.Errorf("report %+v", r)
		}
	}
	if src := mustRead(t, f.consumer(0, 0), 0, []byte("1")); src.Attempt != 1 {
		t.Errorf("read from %v", src)
	}
	// Attempt 2 looked first and had no need to write its data.
	if r := p2.Report(); r.S3.Put.Requests != 0 || r.S3.Head.Requests != 1 {
		t.Errorf("report %+v", r)
	}
}

func TestWinnerWhoseObjectIsGoneIsReplaced(t *testing.T) {
	f := newFixture(t, S3, 1, 1)
	p0 := f.producer(0, 0)
	fill(t, p0, []byte("first"))
	finish(t, p0)
	f.object(f.record(0).Key, func([]byte) []byte { return nil })
	p1 := f.producer(0, 1)
	fill(t, p1, []byte("second"))
	finish(t, p1)
	if r := wait(t, p1); !r.Won {
		t.Errorf("report %+v", r)
	}
	mustRead(t, f.consumer(0, 0), 0, []byte("second"))
}

func TestRecordWithoutAPartitionIsReplacedByAnAttemptThatHasIt(t *testing.T) {
	f := newFixture(t, Auto, 1, 2)
	p := f.producer(0, 0)
	c := f.consumer(0, 0)
	fill(t, p, []byte("a"), []byte("b"))
	finish(t, p)
	mustRead(t, c, 0, []byte("a"))
	mustAck(t, c)
	c1 := f.consumer(1, 0)
	mustRead(t, c1, 0, []byte("b"))
	f.kill("consumer-1-0")
	wait(t, p)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	// Consumer 0 acknowledged, but its output is wanted again all the same. The first
	// one has to be gone, or it would acknowledge to the next producer, too.
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	again := f.consumer(0, 1)
	_, err := again.Open(within(t), 0)
	if lost := wantLost(t, err); !errors.Is(lost, errNotInRecord) {
		t.Errorf("the cause is %v", lost.Err)
	}
	p1 := f.producer(0, 1, func(c *ProducerConfig) { c.Policy.TimeToSync = 0 })
	fill(t, p1, []byte("a"), []byte("b"))
	finish(t, p1)
	if r := p1.Report(); !r.Won {
		t.Errorf("report %+v", r)
	}
	mustRead(t, again, 0, []byte("a"))
}

func TestReadThatNeverMovesEnds(t *testing.T) {
	f := newFixture(t, Direct, 1, 1)
	f.hub.onRead = func(l *testLink, off int64, b []byte) {
		if off+int64(len(b)) > 60 { // the answer, then nothing
			l.cut()
			clear(b)
		}
	}
	p := f.producer(0, 0)
	c := f.consumer(0, 0, func(c *ConsumerConfig) { c.Patience = time.Millisecond })
	fill(t, p, bytesOf(100_000, "x"))
	finish(t, p)
	got, err := io.ReadAll(open(t, c, 0))
	if err == nil || len(got) != 0 {
		t.Fatalf("%d bytes, error %v", len(got), err)
	}
}
