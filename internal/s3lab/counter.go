package s3lab

import (
	"bufio"
	"context"
	"io"
	"maps"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/gofiber/fiber/v3"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/s3api/utils"
)

// counter counts the requests of a gateway. It sits in two places: as a
// middleware, which sees every request and its answer, and around the
// backend's GetObject, because the body of that answer is sent after the
// middleware has returned.
//
// The bytes of a body that is being sent are counted when its headers are
// ready, and what was not sent is taken back if the transfer breaks off. So
// the counts are exact as soon as a client has its whole answer, and exact
// again once a broken transfer has been noticed.
type counter struct {
	namer  namer
	shaper *shaper // nil: no model
	faults faults

	mu  sync.Mutex
	ops map[string]*Operation
}

func newCounter(m *Model) *counter {
	return &counter{namer: newNamer(), shaper: newShaper(m), ops: make(map[string]*Operation)}
}

// stats returns a copy of the counts.
func (c *counter) stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Stats{Model: (*Model)(nil).String(), Operations: make(map[string]Operation, len(c.ops))}
	if c.shaper != nil {
		s.Model = c.shaper.model.String()
	}
	for name, op := range c.ops {
		o := *op
		o.Errors = maps.Clone(op.Errors)
		s.Operations[name] = o
	}
	return s
}

// recordKey is the request-local under which the middleware leaves its record
// for the backend to find.
type recordKey struct{}

// record is one request while it is being answered.
type record struct {
	op       string
	client   *bandwidth // nil: no limit
	promised uint64     // bytes of a streamed body that are counted already
}

// handle is the middleware.
func (c *counter) handle(ctx fiber.Ctx) error {
	rec := &record{op: c.namer.name(request{
		method: ctx.Method(),
		path:   ctx.Path(),
		query: func(key string) (string, bool) {
			args := ctx.RequestCtx().QueryArgs()
			return string(args.Peek(key)), args.Has(key)
		},
		header: func(key string) string { return ctx.Get(key) },
	})}
	ctx.Locals(recordKey{}, rec)

	rec.client = c.shaper.client(ctx.RequestCtx().RemoteIP().String())

	body := &countingReader{}
	if stream := ctx.Request().BodyStream(); stream != nil {
		body.r = rec.client.pace(stream)
		// The gateway's readers stack on top of the one found here.
		utils.ContextKeyBodyReader.Set(ctx, body)
	}

	status := http.StatusInternalServerError // if the handler panics
	defer func() { c.answered(ctx, rec, body.n, status) }()
	if refusal := c.spoil(rec.op, ctx.Path()); refusal != 0 {
		status = refusal
		return refuse(ctx, body, refusal)
	}
	err := ctx.Next()
	if err == nil {
		status = ctx.Response().StatusCode()
	}
	return err
}

// spoil waits as long as the model and a fault want it, and gives the status
// with which the request is refused, or 0.
func (c *counter) spoil(operation, path string) (status int) {
	fault, _ := c.faults.next(operation, path)
	delay, ok := c.shaper.admit(operation, path)
	time.Sleep(delay + fault.Delay)
	if fault.Status == 0 && !ok {
		return http.StatusServiceUnavailable
	}
	return fault.Status
}

// refuse answers as S3 does when it has too much to do, or a fault of its own. The
// body is read before, so that the client gets to the answer.
func refuse(ctx fiber.Ctx, body *countingReader, status int) error {
	if body.r != nil {
		if _, err := io.Copy(io.Discard, body); err != nil {
			return err
		}
	}
	code, message := "InternalError", "We encountered an internal error. Please try again."
	if status == http.StatusServiceUnavailable {
		code, message = "SlowDown", "Please reduce your request rate."
	}
	ctx.Set("Content-Type", "application/xml")
	ctx.Status(status)
	return ctx.SendString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n<Error><Code>" + code + "</Code><Message>" + message + "</Message></Error>")
}

func (c *counter) answered(ctx fiber.Ctx, rec *record, in uint64, status int) {
	if in == 0 && ctx.Request().BodyStream() == nil {
		in = uint64(len(ctx.Request().Body())) // the handler asked for all of it at once
	}
	var out, promised uint64
	switch resp := ctx.Response(); {
	case ctx.Method() == http.MethodHead:
	case resp.IsBodyStream():
		promised = uint64(max(resp.Header.ContentLength(), 0))
	default:
		out = uint64(len(resp.Body()))
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	rec.promised = promised
	op := c.ops[rec.op]
	if op == nil {
		op = &Operation{}
		c.ops[rec.op] = op
	}
	op.Requests++
	op.BytesIn += in
	op.BytesOut += out + promised
	if status >= http.StatusMultipleChoices {
		if op.Errors == nil {
			op.Errors = make(map[int]uint64)
		}
		op.Errors[status]++
	}
}

// sent settles the count of a streamed body.
func (c *counter) sent(rec *record, n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n < rec.promised {
		c.ops[rec.op].BytesOut -= rec.promised - n
	}
	rec.promised = 0
}

// countingReader counts what is read of a request's body.
type countingReader struct {
	r io.Reader
	n uint64
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.n += uint64(max(n, 0))
	return n, err
}

// countingBackend counts what is sent of the objects that the backend hands out.
type countingBackend struct {
	backend.Backend
	counter *counter
}

// GetObject implements backend.Backend.
func (b *countingBackend) GetObject(ctx context.Context, in *s3.GetObjectInput) (*s3.GetObjectOutput, error) {
	out, err := b.Backend.GetObject(ctx, in)
	if err != nil || out == nil || out.Body == nil {
		return out, err
	}
	if rec, ok := ctx.Value(recordKey{}).(*record); ok {
		out.Body = &countingBody{body: out.Body, rec: rec, counter: b.counter}
	}
	return out, nil
}

// countingBody is the body of an object on its way out. Whole objects are
// plain files, which it lets the kernel send by itself.
type countingBody struct {
	body    io.ReadCloser
	rec     *record
	counter *counter
	n       uint64
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(b.rec.client.piece(p))
	b.rec.client.take(n)
	b.n += uint64(max(n, 0))
	return n, err
}

// WriteTo implements io.WriterTo. A file reaches the TCP connection's
// ReadFrom, hence sendfile, only if nothing is left in the buffered writer.
func (b *countingBody) WriteTo(w io.Writer) (int64, error) {
	if bw, ok := w.(*bufio.Writer); ok && b.rec.client == nil {
		if _, isFile := b.body.(*os.File); isFile {
			if err := bw.Flush(); err != nil {
				return 0, err
			}
		}
		n, err := bw.ReadFrom(b.body)
		b.n += uint64(max(n, 0))
		return n, err
	}
	n, err := io.Copy(w, b.rec.client.pace(b.body))
	b.n += uint64(max(n, 0))
	return n, err
}

func (b *countingBody) Close() error {
	b.counter.sent(b.rec, b.n)
	return b.body.Close()
}
