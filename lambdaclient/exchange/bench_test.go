package exchange

import (
	"context"
	"io"
	"testing"
)

const benchSize = 64 << 20

// benchHub has the windows of the client package.
func benchHub(b *testing.B) *hub {
	h := newHub(b)
	h.window = 16 << 20
	return h
}

// BenchmarkBareStream is what QUIC on loopback gives in this very run: the
// measure for BenchmarkDirect.
func BenchmarkBareStream(b *testing.B) {
	h := benchHub(b)
	from, to := h.node("producer-0-0"), h.node("consumer-0-0")
	l, err := to.dial(context.Background(), from)
	if err != nil {
		b.Fatal(err)
	}
	other := (<-from.accepted).(*testLink)
	data := bytesOf(benchSize, "bench")
	b.SetBytes(benchSize)
	for b.Loop() {
		done := make(chan error)
		go func() {
			s, err := other.AcceptStream(context.Background())
			if err == nil {
				for off := 0; off < len(data) && err == nil; off += maxData {
					_, err = s.Write(data[off : off+maxData])
				}
				s.Close()
			}
			done <- err
		}()
		s, err := l.OpenStreamSync(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		_, _ = s.Write([]byte{1})
		if n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{s}, make([]byte, maxData)); n != benchSize || err != nil {
			b.Fatal(n, err)
		}
		s.Close()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkRead(b *testing.B, f *fixture, spill bool) {
	p := f.producer(0, 0, func(c *ProducerConfig) {
		if spill {
			c.MemoryBudget = 1
		}
	})
	c := f.consumer(0, 0)
	fill(b, p, bytesOf(benchSize, "bench"))
	if err := p.Finish(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(benchSize)
	for b.Loop() {
		r, err := c.Open(context.Background(), 0)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{r}, make([]byte, maxData)); n != benchSize || err != nil {
			b.Fatal(n, err)
		}
		r.Close()
	}
}

func BenchmarkDirect(b *testing.B) {
	f := &fixture{t: b, mode: Direct, shuffle: Shuffle{Job: "bench", Producers: 1, Consumers: 1}}
	b.Run("memory", func(b *testing.B) { f.t = b; f.hub = benchHub(b); benchmarkRead(b, f, false) })
	b.Run("spilled", func(b *testing.B) { f.t = b; f.hub = benchHub(b); benchmarkRead(b, f, true) })
}

func BenchmarkS3(b *testing.B) {
	f := &fixture{t: b, mode: S3, shuffle: Shuffle{Job: "bench", Producers: 1, Consumers: 1}, store: store(b)}
	benchmarkRead(b, f, false)
}

// BenchmarkWrite is the cost of a partition's bytes to the producer.
func BenchmarkWrite(b *testing.B) {
	data := bytesOf(1<<20, "bench")
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		p := &partition{arena: &arena{budget: 2 << 20}}
		for off := 0; off < len(data); off += 4096 {
			if _, err := p.Write(data[off : off+4096]); err != nil {
				b.Fatal(err)
			}
		}
		if err := p.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
