package lambdaclient

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
)

// ErrDeadline is the cause (see context.Cause) with which a handler's context ends when the function's time
// is nearly used up.
var ErrDeadline = errors.New("the function's time is nearly used up")

// DefaultMargin is how long before Lambda's deadline a handler's context ends, unless [WithMargin] says otherwise.
const DefaultMargin = time.Second

// shutdownTime is how long the session may take to leave on SIGTERM: Lambda kills 500 ms after it.
const shutdownTime = 300 * time.Millisecond

// Handler is a Lambda function with a session. in is decoded from the invocation's JSON payload, the result encoded
// to it. An error becomes the invocation's error, of errorType the error's Go type.
type Handler[In, Out any] func(ctx context.Context, s *Session, in In) (Out, error)

// Option changes how [Start] runs a handler.
type Option func(*options)

type options struct {
	margin time.Duration
}

// WithMargin sets how long before Lambda's deadline the handler's context ends. Zero means at the deadline itself. At
// most half of the function's time is kept back, however long the margin.
func WithMargin(d time.Duration) Option {
	return func(o *options) { o.margin = max(d, 0) }
}

// Start serves invocations by h and never returns; call it once, from main. The process also registers for SIGTERM
// (as an internal extension, which aws-lambda-go does), so that it can leave the rendezvous when the environment is
// shut down: peers then know at once instead of after a timeout.
func Start[In, Out any](h Handler[In, Out], opts ...Option) {
	s := newSession()
	lambda.StartWithOptions(wrap(h, s, opts...), lambda.WithEnableSIGTERM(func() {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
		defer cancel()
		s.shutdown(ctx)
	}))
}

// wrap makes the function that aws-lambda-go calls for every invocation.
func wrap[In, Out any](h Handler[In, Out], s *Session, opts ...Option) func(context.Context, In) (Out, error) {
	o := options{margin: DefaultMargin}
	for _, opt := range opts {
		opt(&o)
	}
	return func(ctx context.Context, in In) (Out, error) {
		s.begin()
		ctx, cancel := withMargin(ctx, o.margin)
		defer cancel()
		return h(ctx, s, in)
	}
}

// withMargin ends the context margin before its deadline, but not before half of the time that is left.
func withMargin(ctx context.Context, margin time.Duration) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || margin <= 0 {
		return context.WithCancel(ctx)
	}
	margin = min(margin, max(time.Until(deadline), 0)/2)
	return context.WithDeadlineCause(ctx, deadline.Add(-margin), ErrDeadline)
}
