package exchange

import (
	"context"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// racing makes the race of one request of a view: it knows the history that the
// request belongs to, and counts.
func racing[T any](ctx context.Context, v *storeView, h *history, size int64, do func(ctx context.Context) (T, error), discard func(T)) raced[T] {
	p90, known := h.p90()
	rate := v.store.uploadRate()
	start := time.Now()
	r := race(ctx, raceAfter(p90, known, size, rate), v.usage.mayRace, do, discard)
	if r.err == nil {
		h.add(time.Since(start) - time.Duration(float64(size)/rate*float64(time.Second)))
	}
	if r.second && r.err == nil {
		v.usage.raceWon()
	}
	return r
}

// get makes a GetObject, whose answer is waited for and raced until its first
// byte. Close of the body frees all.
func (v *storeView) get(ctx context.Context, in *s3.GetObjectInput) (*s3.GetObjectOutput, error) {
	r := racing(ctx, v, &v.store.gets, 0, func(ctx context.Context) (*s3.GetObjectOutput, error) {
		one := *in
		return v.client.GetObject(ctx, &one)
	}, func(out *s3.GetObjectOutput) { out.Body.Close() })
	if r.err != nil {
		return nil, r.err
	}
	r.value.Body = &freeingBody{r.value.Body, r.cancel}
	return r.value, nil
}

// putOnce makes a PutObject of a body of which each request has its own reader.
func (v *storeView) putOnce(ctx context.Context, in *s3.PutObjectInput, size int64, body func() io.Reader) error {
	r := racing(ctx, v, &v.store.puts, size, func(ctx context.Context) (*s3.PutObjectOutput, error) {
		one := *in
		one.Body, one.ContentLength = body(), &size
		return v.client.PutObject(ctx, &one)
	}, func(*s3.PutObjectOutput) {})
	r.cancel()
	return r.err
}

// freeingBody ends its request when it is closed.
type freeingBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *freeingBody) Close() error {
	err := b.ReadCloser.Close()
	b.cancel()
	return err
}
