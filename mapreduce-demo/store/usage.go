package store

import (
	"context"
	"io"
	"maps"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Count is a number of requests and the bytes of objects that they moved.
type Count struct {
	Requests int64 `json:"requests"`
	Bytes    int64 `json:"bytes"`
}

// Usage counts requests by S3 operation, repetitions by the SDK included.
type Usage map[string]Count

// Add adds other to u, which must not be nil.
func (u Usage) Add(other Usage) {
	for op, c := range other {
		sum := u[op]
		sum.Requests += c.Requests
		sum.Bytes += c.Bytes
		u[op] = sum
	}
}

// Sub returns what was counted since an earlier reading.
func (u Usage) Sub(earlier Usage) Usage {
	since := Usage{}
	for op, c := range u {
		c.Requests -= earlier[op].Requests
		c.Bytes -= earlier[op].Bytes
		if c != (Count{}) {
			since[op] = c
		}
	}
	return since
}

// counter is a client's middleware at the last step before the network, where
// repetitions pass one by one.
type counter struct {
	mu    sync.Mutex
	usage Usage
}

func (c *counter) snapshot() Usage {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.usage)
}

func (c *counter) add(op string, requests, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.usage == nil {
		c.usage = Usage{}
	}
	sum := c.usage[op]
	sum.Requests += requests
	sum.Bytes += bytes
	c.usage[op] = sum
}

func (c *counter) install(o *s3.Options) {
	// A slice of its own: the client that the options come from keeps its own too.
	o.APIOptions = append(append([]func(*middleware.Stack) error(nil), o.APIOptions...), func(stack *middleware.Stack) error {
		return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("CountRequests", c.handle), middleware.After)
	})
}

func (c *counter) handle(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
	op := middleware.GetOperationName(ctx)
	sent := int64(0)
	if request, ok := in.Request.(*smithyhttp.Request); ok && op == "PutObject" {
		if length, ok, err := request.StreamLength(); ok && err == nil {
			sent = length
		}
	}
	c.add(op, 1, sent)
	out, metadata, err := next.HandleDeserialize(ctx, in)
	if response, ok := out.RawResponse.(*smithyhttp.Response); ok && response != nil && op == "GetObject" && response.StatusCode < 300 {
		response.Body = &countedBody{response.Body, c}
	}
	return out, metadata, err
}

// countedBody counts the bytes of an object as they are read.
type countedBody struct {
	io.ReadCloser
	counter *counter
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.counter.add("GetObject", 0, int64(n))
	return n, err
}
