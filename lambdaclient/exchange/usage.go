package exchange

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// usage counts the requests of one client of S3, at the last step before the
// transport, where repetitions by the SDK pass one by one.
type usage struct {
	mu   sync.Mutex
	u    S3Usage
	slow time.Time // of the last 503
}

// mayRace allows a second request, and counts it.
func (u *usage) mayRace() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !mayRace(u.u.Get.Requests+u.u.Put.Requests, u.u.Raced, u.slow, time.Now()) {
		return false
	}
	u.u.Raced++
	return true
}

func (u *usage) raceWon() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.u.RacesWon++
}

func (u *usage) snapshot() S3Usage {
	if u == nil {
		return S3Usage{}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.u
}

func (u *usage) install(o *s3.Options) {
	options := make([]func(*middleware.Stack) error, 0, len(o.APIOptions)+1)
	options = append(options, o.APIOptions...)
	o.APIOptions = append(options, func(stack *middleware.Stack) error {
		return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("BradawlExchangeUsage", u.handle), middleware.After)
	})
}

func (u *usage) handle(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
	op := middleware.GetOperationName(ctx)
	if req, ok := in.Request.(*smithyhttp.Request); ok {
		u.mu.Lock()
		c := u.u.of(op)
		c.Requests++
		c.Bytes += bodyLength(req)
		if isRetry(req.Header) {
			u.u.Retries++
		}
		u.mu.Unlock()
	}
	out, md, err := next.HandleDeserialize(ctx, in)
	if resp, ok := out.RawResponse.(*smithyhttp.Response); ok && resp != nil {
		if resp.StatusCode == http.StatusServiceUnavailable {
			u.mu.Lock()
			u.u.SlowDowns++
			u.slow = time.Now()
			u.mu.Unlock()
		}
		if op == "GetObject" && resp.StatusCode < 300 {
			resp.Body = &countedBody{ReadCloser: resp.Body, usage: u}
		}
	}
	return out, md, err
}

// of gives the counter that an operation belongs to.
func (u *S3Usage) of(op string) *Count {
	switch op {
	case "PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload":
		return &u.Put
	case "GetObject":
		return &u.Get
	case "HeadObject":
		return &u.Head
	case "ListObjectsV2":
		return &u.List
	}
	return &u.Other
}

// bodyLength is the length of a request's object, without the framing that
// the SDK puts around it for a trailing checksum.
func bodyLength(req *smithyhttp.Request) int64 {
	if n, err := strconv.ParseInt(req.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64); err == nil {
		return n
	}
	return max(req.ContentLength, 0)
}

// isRetry reads the SDK's header "attempt=2; max=3".
func isRetry(h http.Header) bool {
	_, after, ok := strings.Cut(h.Get("Amz-Sdk-Request"), "attempt=")
	return ok && !strings.HasPrefix(after, "1;") && after != "1"
}

// countedBody counts what of an object was read.
type countedBody struct {
	io.ReadCloser
	usage *usage
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.usage.mu.Lock()
	b.usage.u.Get.Bytes += int64(n)
	b.usage.mu.Unlock()
	return n, err
}
