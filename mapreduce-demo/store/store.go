// Package store is what the MapReduce does on S3 beside the shuffle: packed
// input, outputs that are committed once, markers. It counts every request.
package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Store is a bucket. It is safe for concurrent use.
type Store struct {
	client *s3.Client
	bucket string
	counts *counter
}

// New makes a Store of the bucket. Requests through it are counted.
func New(client *s3.Client, bucket string) *Store {
	counts := new(counter)
	return &Store{client: s3.New(client.Options(), counts.install), bucket: bucket, counts: counts}
}

// Bucket is the bucket's name.
func (s *Store) Bucket() string { return s.bucket }

// Usage is what was requested through this Store so far.
func (s *Store) Usage() Usage { return s.counts.snapshot() }

// Error is a failed operation.
type Error struct {
	Op, Place string
	Err       error
}

// Error tells what was tried on what, in one line.
func (e *Error) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, e.Place, Plain(e.Err)) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func (s *Store) fail(op, key string, err error) error {
	return &Error{Op: op, Place: "s3://" + s.bucket + "/" + key, Err: err}
}

// Put stores an object whether or not there is one.
func (s *Store) Put(ctx context.Context, key string, body []byte) error {
	_, err := s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &s.bucket, Key: &key, Body: bytes.NewReader(body), ContentLength: aws.Int64(int64(len(body))),
	})
	if err != nil {
		return s.fail("write", key, err)
	}
	return nil
}

// PutOnce stores an object of up to 5 GiB if there is none (If-None-Match: *),
// and tells whether it did. That there is one already is no error.
func (s *Store) PutOnce(ctx context.Context, key string, body io.ReadSeeker, size int64) (written bool, err error) {
	_, err = s.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &s.bucket, Key: &key, Body: body, ContentLength: &size, IfNoneMatch: aws.String("*"),
	})
	switch {
	case err == nil:
		return true, nil
	case status(err) == http.StatusPreconditionFailed:
		return false, nil
	}
	return false, s.fail("write", key, err)
}

// Exists tells whether there is an object.
func (s *Store) Exists(ctx context.Context, key string) (bool, error) {
	_, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &s.bucket, Key: &key})
	switch {
	case err == nil:
		return true, nil
	case status(err) == http.StatusNotFound:
		return false, nil
	}
	return false, s.fail("look for", key, err)
}

// PutOwn stores an object of up to 5 GiB where nobody else has stored another one.
// That the same bytes are there already is no error: S3 may have stored them and
// its answer got lost, and then the next try is refused. written is false if the
// object that is there is another one.
func (s *Store) PutOwn(ctx context.Context, key string, body io.ReadSeeker, size int64) (written bool, err error) {
	if written, err = s.PutOnce(ctx, key, body, size); err != nil || written {
		return written, err
	}
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return false, s.fail("compare", key, err)
	}
	there, stored, err := s.Get(ctx, key)
	if err != nil {
		return false, err
	}
	defer there.Close()
	if stored != size {
		return false, nil
	}
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for left := size; left > 0; {
		n := min(left, int64(len(a)))
		if _, err := io.ReadFull(body, a[:n]); err != nil {
			return false, s.fail("compare", key, err)
		}
		if _, err := io.ReadFull(there, b[:n]); err != nil {
			return false, s.fail("compare", key, err)
		}
		if !bytes.Equal(a[:n], b[:n]) {
			return false, nil
		}
		left -= n
	}
	return true, nil
}

// Get begins to read a whole object. Close the body.
func (s *Store) Get(ctx context.Context, key string) (body io.ReadCloser, size int64, err error) {
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: &key})
	if err != nil {
		return nil, 0, s.fail("read", key, err)
	}
	return out.Body, aws.ToInt64(out.ContentLength), nil
}

// readTries is how often a broken body is asked for again, from where it broke.
const readTries = 4

// ReadAt fills dst with the object's bytes from offset on.
func (s *Store) ReadAt(ctx context.Context, key string, offset int64, dst []byte) error {
	var last error
	for range readTries {
		if len(dst) == 0 {
			return nil
		}
		out, err := s.client.GetObject(ctx, &s3.GetObjectInput{
			Bucket: &s.bucket, Key: &key,
			Range: aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+int64(len(dst))-1)),
		})
		if err != nil {
			return s.fail("read", key, err) // the SDK has tried again already
		}
		n, err := io.ReadFull(out.Body, dst)
		out.Body.Close()
		dst, offset = dst[n:], offset+int64(n)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return s.fail("read", key, context.Cause(ctx))
		}
		last = err
	}
	return s.fail("read", key, last)
}

// CreateBucket makes the bucket; that it is there already is no error.
func (s *Store) CreateBucket(ctx context.Context) error {
	_, err := s.client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &s.bucket})
	if err != nil && status(err) != http.StatusConflict {
		return &Error{Op: "make the bucket", Place: s.bucket, Err: err}
	}
	return nil
}

// Empty tells whether no object's key begins with prefix.
func (s *Store) Empty(ctx context.Context, prefix string) (bool, error) {
	out, err := s.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{
		Bucket: &s.bucket, Prefix: &prefix, MaxKeys: aws.Int32(1),
	})
	if err != nil {
		return false, s.fail("list", prefix, err)
	}
	return len(out.Contents) == 0, nil
}

// Delete removes objects. Those that are not there are no error.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	var errs []error
	for _, key := range keys {
		if _, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: &key}); err != nil {
			errs = append(errs, s.fail("delete", key, err))
		}
	}
	return errors.Join(errs...)
}

// status is the HTTP status of the answer that err stands for, or 0.
func status(err error) int {
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}
