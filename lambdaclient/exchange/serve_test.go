package exchange

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
)

// raw sends bytes to a producer over a link of consumer-0-0, and gives the answer.
func raw(t *testing.T, f *fixture, b []byte) (frameType, []byte, error) {
	t.Helper()
	f.hub.mu.Lock()
	to, n := f.hub.nodes["producer-0-0"], f.hub.nodes["consumer-0-0"]
	f.hub.mu.Unlock()
	if n == nil {
		n = f.hub.node("consumer-0-0")
	}
	l, err := n.dial(within(t), to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.cut)
	s, err := l.open(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(b); err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	return readFrame(s, nil)
}

func TestProducerRefusesWhatIsNotForIt(t *testing.T) {
	good := request{job: jobDigest("job/1"), producer: 0, attempt: 0, partition: 0}
	cases := []struct {
		name   string
		change func(*request)
		kind   frameType
		code   uint32
	}{
		{"another job", func(q *request) { q.job++ }, frameFetch, refusedOther},
		{"another producer", func(q *request) { q.producer = 1 }, frameFetch, refusedOther},
		{"another attempt", func(q *request) { q.attempt = 1 }, frameFetch, refusedAttempt},
		{"another consumer's partition", func(q *request) { q.partition = 1 }, frameFetch, refusedOther},
		{"a partition out of range", func(q *request) { q.partition = 1 << 31 }, frameFetch, refusedOther},
		{"an offset beyond the end", func(q *request) { q.offset = 3 }, frameFetch, refusedRange},
		{"a huge offset", func(q *request) { q.offset = 1 << 63 }, frameFetch, refusedRange},
		{"an acknowledgement for another consumer", func(q *request) { q.partition = 1 }, frameAck, refusedOther},
		{"an acknowledgement of another job", func(q *request) { q.job++ }, frameAck, refusedOther},
		{"an answer for a request", func(*request) {}, frameAcked, refusedOther},
	}
	f := newFixture(t, Direct, 2, 2)
	p := f.producer(0, 0)
	fill(t, p, []byte("ab"), []byte("cd"))
	finish(t, p)
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			q := good
			tc.change(&q)
			frame := q.frame(tc.kind)
			if tc.kind == frameAcked {
				frame = sealFrame(make([]byte, headerLen), frameAcked)
			}
			kind, b, err := raw(t, f, frame)
			if err != nil || kind != frameRefused {
				t.Fatalf("type %d, %v", kind, err)
			}
			if e := parseRefused(b); e.code != tc.code || e.why == "" {
				t.Errorf("%v", e)
			}
		})
	}
	for _, garbage := range []string{"GET / HTTP/1.1\r\n\r\n", "BX\x01\x01\xff\xff\xff\xff\x00\x00\x00\x00", "BX\x01\x01\x00\x00\x00\x20\x00\x00\x00\x00short"} {
		if kind, _, err := raw(t, f, []byte(garbage)); err == nil {
			t.Errorf("%q is answered with type %d", garbage, kind)
		}
	}
	// After all that the producer works as before.
	if kind, b, err := raw(t, f, good.frame(frameFetch)); err != nil || kind != framePartition {
		t.Errorf("type %d, %x, %v", kind, b, err)
	}
	if r := p.Report(); r.Acked != 0 {
		t.Errorf("report %+v", r)
	}
}

func TestLinksOfStrangersAreClosed(t *testing.T) {
	f := newFixture(t, Direct, 1, 1)
	f.producer(0, 0)
	f.hub.mu.Lock()
	to := f.hub.nodes["producer-0-0"]
	f.hub.mu.Unlock()
	for _, name := range []string{"stranger", "consumer-1-0", "consumer-x-0", "consumer-0"} {
		l, err := f.hub.node(name).dial(within(t), to)
		if err == nil { // the refusal may come while the link is still being made
			<-l.done()
			err = l.cause()
		}
		if code, left := leaveCode(err); !left || code != closeGone {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSpillKeepsToTheBudgetAndLeavesNoFile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	for _, budget := range []int64{1, 3 * chunkSize, 1 << 30} {
		f := newFixture(t, Direct, 1, len(edgeSizes()))
		p := f.producer(0, 0, func(c *ProducerConfig) { c.MemoryBudget = budget })
		var data [][]byte
		total := int64(0)
		for _, n := range edgeSizes() {
			data = append(data, bytesOf(n, "spill"))
			total += int64(n)
		}
		var wg sync.WaitGroup // all partitions at once, as a mapper's threads may
		for i, b := range data {
			wg.Go(func() {
				if _, err := io.Copy(p.Partition(i), bytes.NewReader(b)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		finish(t, p)
		held := int64(0)
		for _, part := range p.parts {
			for _, c := range part.chunks {
				held += int64(cap(c.mem))
			}
		}
		r := p.Report()
		if held > budget || r.Bytes != total || (r.Spilled == 0) != (budget > total) {
			t.Errorf("budget %d: %d bytes held, report %+v", budget, held, r)
		}
		if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
			t.Errorf("files left: %v, %v", files, err)
		}
		for i, b := range data {
			mustRead(t, f.consumer(i, 0), 0, b)
		}
		// Any range, as a consumer that resumes asks for it.
		part := p.parts[len(p.parts)-1]
		all := newBundle(p.parts)
		whole := bytes.Join(data, nil)
		for _, off := range []int64{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, part.size - 1} {
			b := make([]byte, 2*chunkSize)
			n, err := part.ReadAt(b, off)
			want := data[len(data)-1][off:min(int64(len(data[len(data)-1])), off+int64(len(b)))]
			if !bytes.Equal(b[:n], want) || (err == io.EOF) != (n < len(b)) {
				t.Errorf("partition at %d: %d bytes, %v", off, n, err)
			}
			if n, err = all.ReadAt(b, off); err != nil || !bytes.Equal(b[:n], whole[off:off+int64(len(b))]) {
				t.Errorf("bundle at %d: %d bytes, %v", off, n, err)
			}
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSpillThatFailsVoidsTheAttempt(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()+"/no/such/directory")
	f := newFixture(t, Direct, 1, 1)
	p := f.producer(0, 0, func(c *ProducerConfig) { c.MemoryBudget = 1 })
	w := p.Partition(0)
	_, err := w.Write(make([]byte, 2*chunkSize))
	if err == nil || !strings.Contains(err.Error(), "spill") {
		t.Fatalf("write: %v", err)
	}
	if _, again := w.Write([]byte("x")); again != err {
		t.Errorf("the error does not stay: %v", again)
	}
	if err := p.Finish(t.Context()); err == nil {
		t.Error("Finish hides that a write had failed")
	}
	if _, err := p.Wait(t.Context()); err == nil {
		t.Error("Wait after a failed Finish gave no error")
	}
}

func TestWritesAfterFinishAreRefused(t *testing.T) {
	f := newFixture(t, Direct, 1, 1)
	p := f.producer(0, 0)
	fill(t, p, []byte("x"))
	finish(t, p)
	if _, err := p.Partition(0).Write([]byte("y")); !errors.Is(err, ErrFinished) {
		t.Errorf("write: %v", err)
	}
	finish(t, p) // again
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	late := f.producer(0, 1)
	if err := late.Close(); err != nil {
		t.Fatal(err)
	}
	if err := late.Finish(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("finish after close: %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	good := Shuffle{Job: "j", Producers: 2, Consumers: 3}
	cases := []struct {
		name string
		cfg  ProducerConfig
	}{
		{"no job", ProducerConfig{Shuffle: Shuffle{Producers: 1, Consumers: 1}, Mode: Direct, Network: silent{}}},
		{"job that climbs", ProducerConfig{Shuffle: Shuffle{Job: "a/../b", Producers: 1, Consumers: 1}, Mode: Direct, Network: silent{}}},
		{"job with spaces", ProducerConfig{Shuffle: Shuffle{Job: "a b", Producers: 1, Consumers: 1}, Mode: Direct, Network: silent{}}},
		{"no consumers", ProducerConfig{Shuffle: Shuffle{Job: "j", Producers: 1}, Mode: Direct, Network: silent{}}},
		{"index", ProducerConfig{Shuffle: good, Producer: 2, Mode: Direct, Network: silent{}}},
		{"attempt", ProducerConfig{Shuffle: good, Attempt: -1, Mode: Direct, Network: silent{}}},
		{"mode", ProducerConfig{Shuffle: good, Mode: "x", Network: silent{}}},
		{"no network", ProducerConfig{Shuffle: good, Mode: Direct, Network: Over(nil)}},
		{"no store", ProducerConfig{Shuffle: good, Mode: S3}},
		{"store without bucket", ProducerConfig{Shuffle: good, Mode: S3, Store: &S3Store{}}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := NewProducer(t.Context(), tc.cfg); err == nil {
				t.Error("no error")
			}
			c := ConsumerConfig{Shuffle: tc.cfg.Shuffle, Mode: tc.cfg.Mode, Store: tc.cfg.Store, Network: tc.cfg.Network, Attempt: tc.cfg.Attempt}
			if tc.name == "index" {
				c.Consumer = 3
			}
			if _, err := NewConsumer(t.Context(), c); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestParsePeerName(t *testing.T) {
	for name, want := range map[string][2]int{"map-0-0": {0, 0}, "map-12-3": {12, 3}} {
		if i, a, ok := ParsePeerName("map", name); !ok || [2]int{i, a} != want {
			t.Errorf("%s: %d, %d, %v", name, i, a, ok)
		}
	}
	for _, name := range []string{"", "map", "map-", "map-1", "map-1-", "map--1-0", "map-01-0", "map-1-0-0", "map-1-0x", "map-+1-0", "reduce-1-0", "map-9999999999-0"} {
		if i, a, ok := ParsePeerName("map", name); ok {
			t.Errorf("%q: %d, %d", name, i, a)
		}
	}
}

func TestCloseFreesTheReadAtOnce(t *testing.T) {
	for _, mode := range []Mode{Direct, S3} {
		t.Run(string(mode), func(t *testing.T) {
			f := newFixture(t, mode, 1, 1)
			p := f.producer(0, 0)
			c := f.consumer(0, 0)
			fill(t, p, bytesOf(1_000_000, "x"))
			finish(t, p)
			r := open(t, c, 0)
			if _, err := r.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			if r.feed != nil || r.unhook() {
				t.Error("after Close the read still holds its source, or hangs on its consumer")
			}
			if err := r.Close(); err != nil {
				t.Errorf("the second time: %v", err)
			}
		})
	}
}
