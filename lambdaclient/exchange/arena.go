package exchange

import (
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sync"
)

// chunkSize is the unit in which partitions are kept, in memory or on disk.
const chunkSize = 64 << 10

// arena holds the chunks of all partitions of a producer: in memory up to the
// budget, then in a temporary file without a name.
type arena struct {
	mu      sync.Mutex
	budget  int64 // memory left
	file    *os.File
	end     int64 // of the file
	spilled int64
	closed  bool
}

// chunk is chunkSize bytes, or fewer at the end of a partition.
type chunk struct {
	mem []byte // nil if the chunk is in the file
	off int64
	n   int
}

// keep takes b over. reusable says that b was copied to the file.
func (a *arena) keep(b []byte) (c chunk, reusable bool, err error) {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return chunk{}, false, ErrClosed
	}
	if a.budget >= int64(cap(b)) {
		a.budget -= int64(cap(b))
		a.mu.Unlock()
		return chunk{mem: b, n: len(b)}, false, nil
	}
	if a.file == nil {
		f, err := os.CreateTemp("", "bradawl-exchange-*")
		if err != nil {
			a.mu.Unlock()
			return chunk{}, false, fmt.Errorf("exchange: spill partitions to a file: %w", err)
		}
		a.file = f
		// Without a name the file cannot outlive the process.
		if err := os.Remove(f.Name()); err != nil {
			a.mu.Unlock()
			return chunk{}, false, fmt.Errorf("exchange: unlink the spill file: %w", err)
		}
	}
	f, off := a.file, a.end
	a.end += int64(len(b))
	a.spilled += int64(len(b))
	a.mu.Unlock()
	if _, err := f.WriteAt(b, off); err != nil {
		return chunk{}, false, fmt.Errorf("exchange: spill partitions to a file, is the disk full: %w", err)
	}
	return chunk{off: off, n: len(b)}, true, nil
}

func (a *arena) spilledBytes() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.spilled
}

// close drops the file. Reads of chunks in it fail from then on.
func (a *arena) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	if a.file == nil {
		return nil
	}
	return a.file.Close()
}

// partition is written once by its writer, then sealed and read by many.
type partition struct {
	arena *arena

	mu     sync.Mutex // guards the fields below until sealed is set; then they are constant
	chunks []chunk    // all of chunkSize, except the last
	cur    []byte
	size   int64
	crc    uint32
	sealed bool
	err    error
}

// Write implements io.Writer. After an error all further writes give it, too.
func (p *partition) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sealed {
		return 0, ErrFinished
	}
	if p.err != nil {
		return 0, p.err
	}
	written := 0
	for len(b) > 0 {
		n := min(chunkSize-len(p.cur), len(b))
		p.grow(len(p.cur) + n)
		p.cur = append(p.cur, b[:n]...)
		p.crc = crc32.Update(p.crc, castagnoli(), b[:n])
		p.size += int64(n)
		b, written = b[n:], written+n
		if len(p.cur) == chunkSize {
			if p.err = p.flush(); p.err != nil {
				return written, p.err
			}
		}
	}
	return written, nil
}

// grow makes room for n bytes in cur: small at first, for many small
// partitions; never more than a chunk.
func (p *partition) grow(n int) {
	if n <= cap(p.cur) {
		return
	}
	c := max(1024, cap(p.cur))
	for c < n {
		c *= 4
	}
	next := make([]byte, len(p.cur), min(c, chunkSize))
	copy(next, p.cur)
	p.cur = next
}

func (p *partition) flush() error {
	if len(p.cur) == 0 {
		return nil
	}
	c, reusable, err := p.arena.keep(p.cur)
	if err != nil {
		return err
	}
	p.chunks = append(p.chunks, c)
	if reusable {
		p.cur = p.cur[:0]
	} else {
		p.cur = nil
	}
	return nil
}

// Close implements io.Closer: nothing can be written any more.
func (p *partition) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sealed {
		return p.err
	}
	p.sealed = true
	if p.err == nil {
		p.err = p.flush()
	}
	p.cur = nil
	return p.err
}

// head describes the partition; it must be sealed.
func (p *partition) head(attempt int) head {
	return head{attempt: attempt, size: p.size, crc: p.crc}
}

// ReadAt implements io.ReaderAt; the partition must be sealed.
func (p *partition) ReadAt(b []byte, off int64) (int, error) {
	n := 0
	for n < len(b) {
		if off >= p.size {
			return n, io.EOF
		}
		c := p.chunks[off/chunkSize]
		at := int(off % chunkSize)
		m := min(len(b)-n, c.n-at)
		if c.mem != nil {
			copy(b[n:n+m], c.mem[at:])
		} else if _, err := p.arena.file.ReadAt(b[n:n+m], c.off+int64(at)); err != nil {
			return n, fmt.Errorf("exchange: read back spilled data: %w", err)
		}
		n, off = n+m, off+int64(m)
	}
	return n, nil
}

// bundle is several partitions back to back.
type bundle struct {
	parts []*partition
	ends  []int64
}

func newBundle(parts []*partition) *bundle {
	b := &bundle{parts: parts, ends: make([]int64, len(parts))}
	end := int64(0)
	for i, p := range parts {
		end += p.size
		b.ends[i] = end
	}
	return b
}

// ReadAt implements io.ReaderAt.
func (b *bundle) ReadAt(buf []byte, off int64) (int, error) {
	n := 0
	for i, p := range b.parts {
		if n == len(buf) {
			return n, nil
		}
		if off >= b.ends[i] {
			continue
		}
		start := b.ends[i] - p.size
		m, err := p.ReadAt(buf[n:n+int(min(int64(len(buf)-n), b.ends[i]-off))], off-start)
		n, off = n+m, off+int64(m)
		if err != nil {
			return n, err
		}
	}
	if n < len(buf) {
		return n, io.EOF
	}
	return n, nil
}
