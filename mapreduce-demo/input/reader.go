package input

import (
	"bytes"
	"context"
	"io"
	"sync"
	"time"
)

// Fetch fills dst with the bytes of a range; len(dst) equals r.Length. It is
// called from several goroutines.
type Fetch func(ctx context.Context, r Range, dst []byte) error

const (
	// chunkSize is how much one request asks for.
	chunkSize = 4 << 20
	// prefetch is how many requests are on their way beside the chunk in use.
	prefetch = 3
)

// Reader yields the records of a split. It implements mapreduce.RecordReader and
// is not safe for concurrent use. Close it.
type Reader struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	ready  chan chan fetched // in the order of the split
	free   chan []byte

	chunk  []byte // what of the current chunk is left
	whole  []byte // the current chunk, to give back
	pos    int64  // position in the split of chunk[0]
	ends   []int64
	carry  []byte
	waited time.Duration
	read   int64
	err    error
}

type fetched struct {
	data []byte
	err  error
}

// NewReader starts to fetch the split.
func NewReader(ctx context.Context, s Split, fetch Fetch) (*Reader, error) {
	return newReader(ctx, s, fetch, chunkSize)
}

func newReader(ctx context.Context, s Split, fetch Fetch, size int64) (*Reader, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &Reader{
		cancel: cancel,
		ctx:    ctx,
		ready:  make(chan chan fetched, prefetch+1),
		free:   make(chan []byte, prefetch+1),
		ends:   s.Ends,
	}
	for range prefetch + 1 {
		r.free <- nil
	}
	r.wg.Add(1)
	go func() {
		defer r.wg.Done()
		defer close(r.ready)
		r.fetchAll(ctx, s, fetch, size)
	}()
	return r, nil
}

// fetchAll cuts the split into requests and keeps as many running as there are buffers.
func (r *Reader) fetchAll(ctx context.Context, s Split, fetch Fetch, size int64) {
	for _, whole := range s.Ranges {
		for whole.Length > 0 {
			part := whole
			part.Length = min(size, whole.Length)
			whole.Offset += part.Length
			whole.Length -= part.Length
			var buf []byte
			select {
			case buf = <-r.free:
			case <-ctx.Done():
				return
			}
			if int64(cap(buf)) < part.Length {
				buf = make([]byte, part.Length)
			}
			buf = buf[:part.Length]
			result := make(chan fetched, 1)
			r.ready <- result // has room: there are as many places as buffers on their way
			r.wg.Add(1)
			go func() {
				defer r.wg.Done()
				err := fetch(ctx, part, buf)
				result <- fetched{buf, err}
			}()
		}
	}
}

// next gets the next chunk, or io.EOF.
func (r *Reader) next() error {
	if r.err != nil {
		return r.err
	}
	if r.whole != nil {
		r.free <- r.whole
		r.whole = nil
	}
	start := time.Now()
	defer func() { r.waited += time.Since(start) }()
	result, ok := <-r.ready
	if !ok {
		// The channel closes after the last range, and when the task was canceled.
		if r.err = context.Cause(r.ctx); r.err == nil {
			r.err = io.EOF
		}
		return r.err
	}
	f := <-result
	if f.err != nil {
		r.err = f.err
		return r.err
	}
	r.whole, r.chunk = f.data, f.data
	r.read += int64(len(f.data))
	return nil
}

// Next returns the next record without its newline.
func (r *Reader) Next() ([]byte, error) {
	r.carry = r.carry[:0]
	for {
		if len(r.ends) > 0 && r.pos == r.ends[0] {
			// The file is over; what it left without a newline is a record too.
			r.ends = r.ends[1:]
			if len(r.carry) > 0 {
				return r.carry, nil
			}
		}
		if len(r.chunk) == 0 {
			if err := r.next(); err != nil {
				if err == io.EOF && len(r.carry) > 0 {
					return r.carry, nil
				}
				return nil, err
			}
		}
		limit := len(r.chunk)
		if len(r.ends) > 0 {
			limit = int(min(int64(limit), r.ends[0]-r.pos))
		}
		part := r.chunk[:limit]
		if i := bytes.IndexByte(part, '\n'); i >= 0 {
			r.skip(i + 1)
			if len(r.carry) == 0 {
				return part[:i], nil
			}
			r.carry = append(r.carry, part[:i]...)
			return r.carry, nil
		}
		r.skip(limit)
		if len(r.carry) == 0 && len(r.ends) > 0 && r.pos == r.ends[0] {
			return part, nil
		}
		r.carry = append(r.carry, part...)
	}
}

func (r *Reader) skip(n int) {
	r.chunk = r.chunk[n:]
	r.pos += int64(n)
}

// Waited is how long Next has waited for bytes so far.
func (r *Reader) Waited() time.Duration { return r.waited }

// Read is how many bytes have come so far.
func (r *Reader) Read() int64 { return r.read }

// Close ends the requests that are on their way and waits for them.
func (r *Reader) Close() error {
	r.cancel()
	r.wg.Wait()
	return nil
}
