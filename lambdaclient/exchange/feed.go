package exchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// feed delivers the bytes of one partition of one attempt, from some offset on.
type feed struct {
	head head
	path Path
	off  int64 // of the next byte
	// next gives 1 to maxData bytes, in buf.
	next  func(buf []byte) ([]byte, error)
	close func()
	// hold ties the feed to a context from here on; what it was tied to
	// before does not end it any more.
	hold func(ctx context.Context)
}

// ask requests a partition over a link, and waits for the answer: until the
// producer has finished, if need be.
func (c *Consumer) ask(ctx context.Context, t *tracker, l trackedLink, offset int64) (*feed, error) {
	c.mu.Lock()
	c.report.Direct.Requests++
	c.mu.Unlock()
	s, err := l.link.open(ctx)
	if err != nil {
		return nil, err
	}
	abort := func() { s.CancelRead(streamEnded); s.CancelWrite(streamEnded) }
	stop := context.AfterFunc(ctx, abort)
	fail := func(err error) (*feed, error) {
		stop()
		abort()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	q := request{
		job: c.digest, producer: uint32(t.producer), attempt: uint32(l.attempt),
		partition: uint32(c.cfg.Consumer), consumerAttempt: uint32(c.cfg.Attempt), offset: uint64(offset),
	}
	if _, err := s.Write(q.frame(frameFetch)); err != nil {
		return fail(err)
	}
	if err := s.Close(); err != nil {
		return fail(err)
	}
	kind, b, err := readFrame(s, nil)
	if err != nil {
		return fail(err)
	}
	if kind == frameRefused {
		return fail(parseRefused(b))
	}
	if kind != framePartition {
		return fail(fmt.Errorf("%w: a frame of type %d answers a request", ErrProtocol, kind))
	}
	h, off, err := parseHead(b)
	if err != nil {
		return fail(err)
	}
	if h.attempt != l.attempt || off != offset {
		return fail(fmt.Errorf("%w: asked attempt %d for offset %d, attempt %d answers for %d", ErrProtocol, l.attempt, offset, h.attempt, off))
	}
	f := &feed{head: h, path: PathDirect, off: off}
	f.hold = func(ctx context.Context) {
		stop()
		stop = context.AfterFunc(ctx, abort)
	}
	f.close = func() { stop(); abort() }
	f.next = func(buf []byte) ([]byte, error) {
		kind, b, err := readFrame(s, buf)
		switch {
		case err == io.EOF:
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		case kind != frameData || int64(len(b)) > h.size-f.off:
			return nil, fmt.Errorf("%w: a frame of type %d with %d bytes, %d are missing", ErrProtocol, kind, len(b), h.size-f.off)
		}
		f.off += int64(len(b))
		c.mu.Lock()
		c.report.Direct.Bytes += int64(len(b))
		c.mu.Unlock()
		return b, nil
	}
	return f, nil
}

// errNotInRecord says that a commit record leaves our partition out.
var errNotInRecord = errors.New("exchange: the commit record leaves this partition out, an earlier attempt of this consumer acknowledged it")

// errNoRecord says that no attempt has committed yet.
var errNoRecord = errors.New("exchange: no commit record on S3 yet")

// errBadObject says that an object is missing or too short.
var errBadObject = errors.New("exchange: the object on S3 is not what the commit record says")

// errUnusable says that what the commit record names was found bad too often.
var errUnusable = errors.New("exchange: the object on S3 is unusable")

// fetchS3 opens the partition as the commit record says. Bytes up to the
// position are left out if the record is of its attempt.
func (c *Consumer) fetchS3(ctx context.Context, t *tracker, pos position) (*feed, error) {
	r := t.knownRecord()
	if r == nil {
		var err error
		if r, _, err = c.view.record(ctx, c.shuffle.Job, t.producer); err != nil {
			return nil, err
		}
		if r == nil {
			return nil, errNoRecord
		}
	}
	e, off, err := r.pick(c.cfg.Consumer, t.banned(r.Attempt, PathS3), pos)
	if err != nil {
		return nil, err
	}
	t.setRecord(r)
	f := &feed{head: head{attempt: r.Attempt, size: e.Size, crc: e.CRC32C}, path: PathS3, off: off, close: func() {}, hold: func(context.Context) {}}
	if f.off == e.Size {
		return f, nil
	}
	// The body's life hangs on the context of its request.
	ctx2, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	body, err := c.view.readRange(ctx2, r.Key, e.Offset+f.off, e.Offset+e.Size-1)
	if err != nil {
		stop()
		cancel()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if errors.Is(err, errShort) || isNoKey(err) || status(err) == http.StatusRequestedRangeNotSatisfiable {
			err = fmt.Errorf("%w: %w", errBadObject, err)
			t.strike(r.Attempt, PathS3, err)
		}
		return nil, err
	}
	f.hold = func(ctx context.Context) {
		stop()
		stop = context.AfterFunc(ctx, cancel)
	}
	f.close = func() {
		stop()
		cancel()
		body.Close()
	}
	f.next = func(buf []byte) ([]byte, error) {
		buf = buf[:min(int64(cap(buf)), e.Size-f.off)]
		n, err := io.ReadAtLeast(body, buf, 1)
		if err == nil {
			f.off += int64(n)
			return buf[:n], nil
		}
		return nil, c.view.fail("read", r.Key, err)
	}
	return f, nil
}
