package exchange

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
)

// S3Store is where the partitions go on S3. It may be shared by producers and
// consumers, also at the same time. Do not copy it after its first use.
//
// Nothing is ever deleted: neither what a job has written nor the ".data" objects
// that no commit record names, which attempts leave that lost the race for it or
// ended before it. Give the bucket a lifecycle rule that expires objects below
// Prefix after the longest job, and one that aborts incomplete multipart uploads.
type S3Store struct {
	// Client makes the requests. Each producer and consumer counts its own.
	// Its retries count, too: they back off from 503 SlowDown, with exponential waits or,
	// in the SDK's retry mode "adaptive", by a rate as well. Requests that take longer than
	// size and history suggest are made a second time beside the first, one in ten at most.
	Client *s3.Client
	// Bucket must exist. The credentials need GetObject, PutObject,
	// AbortMultipartUpload and ListBucket (without the last, S3 answers 403
	// instead of 404 for a record that is not there yet).
	Bucket string
	// Prefix goes before all keys; may be empty. A "/" at its end is optional.
	Prefix string

	mu   sync.Mutex
	rate float64 // the slowest upload measured, in bytes per second; 0 before the first

	gets, puts history // of this process's requests
}

const (
	// assumedRate is what S3 takes from one function when nothing is known:
	// half of what has been measured on Lambda.
	assumedRate = 25e6
	// minRateSample is the smallest upload that says something about the rate.
	minRateSample = 1 << 20
	// multipartOver is the size from which on uploads go in parallel parts.
	multipartOver = 16 << 20
	partSize      = 8 << 20
	partsAtOnce   = 4
)

func (s *S3Store) uploadRate() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rate == 0 {
		return assumedRate
	}
	return s.rate
}

func (s *S3Store) measured(bytes int64, took time.Duration) {
	if bytes < minRateSample || took <= 0 {
		return
	}
	rate := float64(bytes) / took.Seconds()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rate == 0 || rate < s.rate {
		s.rate = rate
	}
}

func (s *S3Store) check() error {
	if s == nil || s.Client == nil || s.Bucket == "" {
		return errors.New("exchange: the mode needs a Store with Client and Bucket")
	}
	return nil
}

// storeView is one producer's or consumer's use of a store, with its counts.
type storeView struct {
	store  *S3Store
	client *countedClient
	prefix string
	usage  *usage
}

func newStoreView(s *S3Store) *storeView {
	v := &storeView{store: s, usage: &usage{}, prefix: s.Prefix}
	if v.prefix != "" && !strings.HasSuffix(v.prefix, "/") {
		v.prefix += "/"
	}
	v.client = &countedClient{s.Client, v.usage}
	return v
}

func (v *storeView) key(k string) *string { return aws.String(v.prefix + k) }

func (v *storeView) fail(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return &StoreError{Op: op, Key: v.store.Bucket + "/" + v.prefix + key, Err: err}
}

// put writes an object of any size, in parallel parts where that pays.
func (v *storeView) put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	start := time.Now()
	var err error
	if size < multipartOver {
		err = v.putOnce(ctx, &s3.PutObjectInput{Bucket: &v.store.Bucket, Key: v.key(key)}, size,
			func() io.Reader { return io.NewSectionReader(body, 0, size) })
	} else {
		tm := transfermanager.New(v.client, func(o *transfermanager.Options) {
			o.PartSizeBytes, o.MultipartUploadThreshold, o.Concurrency = partSize, multipartOver, partsAtOnce
			o.FailTimeout = 2 * time.Second // to take back the parts when ctx has ended
		})
		_, err = tm.UploadObject(ctx, &transfermanager.UploadObjectInput{Bucket: &v.store.Bucket, Key: v.key(key), Body: io.NewSectionReader(body, 0, size)})
	}
	if err == nil {
		v.store.measured(size, time.Since(start))
	}
	return v.fail("write data to", key, err)
}

// head asks for an object's size; ok is false if there is no such object.
func (v *storeView) head(ctx context.Context, key string) (size int64, ok bool, err error) {
	out, err := v.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &v.store.Bucket, Key: v.key(key)})
	if status(err) == http.StatusNotFound {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, v.fail("look for", key, err)
	}
	return aws.ToInt64(out.ContentLength), true, nil
}

// errShort says that an object does not have the bytes that its record promises.
var errShort = errors.New("the object is too short")

// readRange opens an object from first to last byte, inclusive.
func (v *storeView) readRange(ctx context.Context, key string, first, last int64) (io.ReadCloser, error) {
	out, err := v.get(ctx, &s3.GetObjectInput{
		Bucket: &v.store.Bucket, Key: v.key(key), Range: aws.String(fmt.Sprintf("bytes=%d-%d", first, last)),
	})
	if err != nil {
		return nil, v.fail("read", key, err)
	}
	if n := aws.ToInt64(out.ContentLength); n != last-first+1 {
		out.Body.Close()
		return nil, v.fail("read", key, fmt.Errorf("%w: asked for bytes %d to %d, got %d bytes", errShort, first, last, n))
	}
	return out.Body, nil
}

// record reads a producer's commit record, and its ETag; nil if there is none yet.
func (v *storeView) record(ctx context.Context, job string, producer int) (*commitRecord, string, error) {
	key := commitKey(job, producer)
	out, err := v.get(ctx, &s3.GetObjectInput{Bucket: &v.store.Bucket, Key: v.key(key)})
	if isNoKey(err) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", v.fail("read commit record", key, err)
	}
	defer out.Body.Close()
	b, err := io.ReadAll(io.LimitReader(out.Body, maxRecord+1))
	if err != nil {
		return nil, "", v.fail("read commit record", key, err)
	}
	r, err := decodeRecord(b, job, producer)
	return r, aws.ToString(out.ETag), err
}

// putRecord writes a commit record: only if there is none, or if replace is
// given, only in the place of the record with that ETag. ok is false if
// another one is there.
func (v *storeView) putRecord(ctx context.Context, r *commitRecord, replace string) (ok bool, err error) {
	b, err := json.Marshal(r)
	if err != nil {
		return false, err
	}
	key := commitKey(r.Job, r.Producer)
	in := &s3.PutObjectInput{
		Bucket: &v.store.Bucket, Key: v.key(key), ContentType: aws.String("application/json"),
	}
	if replace == "" {
		in.IfNoneMatch = aws.String("*")
	} else {
		in.IfMatch = &replace
	}
	// If both requests of a race take effect, the answer that counts may be that
	// the record is there: the caller then finds that it is its own.
	err = v.putOnce(ctx, in, int64(len(b)), func() io.Reader { return bytes.NewReader(b) })
	switch {
	case status(err) == http.StatusPreconditionFailed, replace != "" && status(err) == http.StatusNotFound:
		return false, nil
	case err != nil:
		return false, v.fail("write commit record", key, err)
	}
	return true, nil
}

// status gives the HTTP status of an SDK error, or 0.
func status(err error) int {
	if re, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return re.HTTPStatusCode()
	}
	return 0
}

// isNoKey tells a missing object from a missing bucket.
func isNoKey(err error) bool {
	if status(err) != http.StatusNotFound {
		return false
	}
	api, ok := errors.AsType[smithy.APIError](err)
	return !ok || api.ErrorCode() != "NoSuchBucket"
}

// isPermanent tells errors of S3 that trying again does not mend.
func isPermanent(err error) bool {
	switch s := status(err); s {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return false
	default:
		return s >= 400 && s < 500
	}
}
