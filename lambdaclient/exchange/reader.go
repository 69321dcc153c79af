package exchange

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"io"
	"sync"
	"time"
)

// maxStalls bounds the breaks in a row without a byte between them.
const maxStalls = 10

// Reader is one read of one partition. It is used by one goroutine at a time.
// What it gives is provisional until it says io.EOF: only then have length and
// checksum been found right. Any other error means that what was read must be
// thrown away: [*ChecksumError] and [*RestartError] (open it again),
// [*LostError], [*LinkError], or that of the context.
type Reader struct {
	c      *Consumer
	t      *tracker
	ctx    context.Context
	cancel context.CancelCauseFunc
	unhook func() bool

	feed  *feed
	head  head
	off   int64  // of what was received and checked
	rest  []byte // of it, what Read has not handed on yet
	buf   []byte
	crc   uint32
	sum   maphash.Hash // of all that was received, to compare another attempt
	s3    int64        // bytes by S3
	err   error        // sticky
	stall int
	begun time.Time
	wait  time.Duration

	use sync.Mutex // held by Read, and by Close once it has told Read to end

	mu  sync.Mutex
	src Source
}

// Open starts to read the consumer's partition of the given producer, and
// returns when a source has answered with its size. It waits for a producer
// that is not there or not finished yet. ctx bounds the whole read, not only
// the call. Errors: [*LostError], [*LinkError] (mode Direct), [*StoreError]
// (mode S3) or that of ctx. Several producers may, and for speed should, be
// read at the same time.
func (c *Consumer) Open(ctx context.Context, producer int) (*Reader, error) {
	if producer < 0 || producer >= len(c.trackers) {
		return nil, fmt.Errorf("exchange: open producer %d: there are %d", producer, len(c.trackers))
	}
	if c.ctx.Err() != nil {
		return nil, c.life()
	}
	r := &Reader{c: c, t: c.trackers[producer], head: head{attempt: -1}, begun: time.Now()}
	r.src = Source{Producer: producer}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	r.unhook = context.AfterFunc(c.ctx, func() { r.cancel(c.life()) })
	r.t.update(func(p *PartitionReport) { *p = PartitionReport{Source: Source{Producer: producer}} })
	if err := r.seek(); err != nil {
		r.end(err)
		return nil, err
	}
	return r, nil
}

// Size is the partition's length in bytes.
func (r *Reader) Size() int64 { return r.head.size }

// Source says where the bytes come from at present. It may be called at any time.
func (r *Reader) Source() Source {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.src
}

// Close ends the read, and frees its stream or its connection to S3 before it
// returns. It may be called at any time, also during a Read, which then ends
// with ErrClosed, and more than once.
func (r *Reader) Close() error {
	r.cancel(ErrClosed)
	r.unhook()
	r.use.Lock()
	defer r.use.Unlock()
	r.drop()
	return nil
}

// Read hands on bytes as they arrive.
func (r *Reader) Read(p []byte) (int, error) {
	r.use.Lock()
	defer r.use.Unlock()
	if len(p) == 0 {
		return 0, r.err
	}
	for len(r.rest) == 0 {
		if r.err == nil {
			r.err = r.fill()
			if r.err != nil {
				r.end(r.err)
			}
		}
		if r.err != nil {
			return 0, r.err
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// fill receives a piece into rest, or finds the end.
func (r *Reader) fill() error {
	for {
		if r.ctx.Err() != nil {
			return context.Cause(r.ctx)
		}
		if r.off == r.head.size {
			return r.verify()
		}
		if r.feed == nil {
			if err := r.seek(); err != nil || len(r.rest) > 0 {
				return err
			}
			continue
		}
		b, err := r.feed.next(r.buffer())
		if err != nil {
			if err := r.broke(err); err != nil {
				return err
			}
			continue
		}
		r.stall = 0
		r.take(b)
		r.rest = b
		return nil
	}
}

func (r *Reader) buffer() []byte {
	if r.buf == nil {
		r.buf = make([]byte, maxData)
	}
	return r.buf
}

// take counts b as received.
func (r *Reader) take(b []byte) {
	r.off += int64(len(b))
	r.crc = crc32.Update(r.crc, castagnoli(), b)
	_, _ = r.sum.Write(b) // never fails
	r.received(len(b))
}

func (r *Reader) received(n int) {
	if r.feed.path == PathS3 {
		r.s3 += int64(n)
	}
	r.t.update(func(p *PartitionReport) {
		if r.feed.path == PathS3 {
			p.S3 += int64(n)
		} else {
			p.Direct += int64(n)
		}
	})
}

// broke gives up the feed. It returns an error if there were too many breaks.
func (r *Reader) broke(err error) error {
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	if errors.Is(err, ErrProtocol) {
		r.t.strike(r.feed.head.attempt, r.feed.path, err)
	}
	r.drop()
	r.t.update(func(p *PartitionReport) { p.Breaks++ })
	r.c.retried()
	if r.stall++; r.stall > maxStalls {
		return errStuck(r.stall, r.Source(), err)
	}
	return nil
}

func (r *Reader) drop() {
	if r.feed != nil {
		r.feed.close()
		r.feed = nil
	}
}

// seek finds a feed and brings it to where the read has come.
func (r *Reader) seek() error {
	began := time.Now()
	f, err := r.c.find(r.ctx, r.t, position{attempt: r.head.attempt, off: r.off})
	r.wait += time.Since(began)
	if err != nil {
		return err
	}
	r.feed = f
	switch join(r.head, r.off, f.head) {
	case joinAdopt:
		r.head = f.head
	case joinResume:
	case joinMismatch:
		err := fmt.Errorf("%w: %s announces %d bytes with CRC-32C %08x, before it was %d with %08x",
			ErrProtocol, f.path, f.head.size, f.head.crc, r.head.size, r.head.crc)
		return r.broke(err)
	case joinCompare:
		if ok, err := r.compare(); err != nil || !ok {
			return err
		}
	}
	r.mu.Lock()
	r.src = Source{Producer: r.t.producer, Attempt: r.head.attempt, Path: f.path}
	src := r.src
	r.mu.Unlock()
	r.t.update(func(p *PartitionReport) { p.Source, p.Bytes, p.Wait = src, r.head.size, r.wait })
	return nil
}

// compare reads the bytes of another attempt that were handed on already; ok
// is false if that broke off.
func (r *Reader) compare() (ok bool, err error) {
	restart := &RestartError{Producer: r.t.producer, Was: r.head.attempt, Now: r.feed.head.attempt}
	if r.feed.head.size < r.off {
		return false, restart
	}
	var sum maphash.Hash
	sum.SetSeed(r.sum.Seed())
	for done := int64(0); done < r.off; {
		b, err := r.feed.next(r.buffer())
		if err != nil {
			return false, r.broke(err)
		}
		r.received(len(b))
		n := int(min(int64(len(b)), r.off-done))
		_, _ = sum.Write(b[:n]) // never fails
		done += int64(n)
		if done < r.off {
			continue
		}
		if sum.Sum64() != r.sum.Sum64() {
			return false, restart
		}
		if n < len(b) { // the piece goes on beyond
			r.head = r.feed.head
			r.off += int64(len(b) - n)
			r.crc = crc32.Update(r.crc, castagnoli(), b[n:])
			_, _ = r.sum.Write(b[n:]) // never fails
			r.rest = b[n:]
		}
	}
	r.head = r.feed.head
	r.stall = 0
	return true, nil
}

// verify is the end: io.EOF if all was right.
func (r *Reader) verify() error {
	if r.crc == r.head.crc {
		r.t.update(func(p *PartitionReport) { p.Done = true })
		return io.EOF
	}
	src := r.Source()
	if r.s3 > 0 {
		src.Path = PathS3 // frames were checked one by one, ranges of an object were not
	}
	err := &ChecksumError{Source: src, Want: r.head.crc, Got: r.crc}
	r.t.strike(src.Attempt, src.Path, err)
	return err
}

// end frees what the read holds, and completes the report.
func (r *Reader) end(err error) {
	r.drop()
	r.unhook()
	r.cancel(err)
	r.t.update(func(p *PartitionReport) {
		p.Wait, p.Transfer = r.wait, time.Since(r.begun)-r.wait
	})
}
