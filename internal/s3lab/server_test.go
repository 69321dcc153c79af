package s3lab

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

const bucket = "a-bucket"

func createBucket(t *testing.T, c *s3.Client) {
	t.Helper()
	if _, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(bucket)}); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, c *s3.Client, key string, body []byte) {
	t.Helper()
	_, err := c.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: aws.String(bucket), Key: aws.String(key), Body: bytes.NewReader(body),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// get returns an object, or the part of it that a Range header names.
func get(t *testing.T, c *s3.Client, key, byteRange string) []byte {
	t.Helper()
	in := &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)}
	if byteRange != "" {
		in.Range = aws.String(byteRange)
	}
	out, err := c.GetObject(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	b, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// status returns the HTTP status of a refused request.
func status(t *testing.T, err error) int {
	t.Helper()
	var resp interface{ HTTPStatusCode() int }
	if !errors.As(err, &resp) {
		t.Fatalf("the request was not refused by the server: %v", err)
	}
	return resp.HTTPStatusCode()
}

// pattern returns n bytes, each of which depends on its offset.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

func TestObjectsAreStoredListedAndRead(t *testing.T) {
	for _, attributes := range []string{"extended attributes", "files beside the objects"} {
		t.Run(attributes, func(t *testing.T) {
			dir := t.TempDir()
			if attributes != "extended attributes" { // as where there are none
				if err := os.Mkdir(filepath.Join(dir, "attributes"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			testStoreListRead(t, startServer(t, Config{Dir: dir}).Client())
		})
	}
}

func testStoreListRead(t *testing.T, c *s3.Client) {
	t.Helper()
	createBucket(t, c)
	body := pattern(3 << 20)
	put(t, c, "dir/big", body)
	put(t, c, "dir/empty", nil)

	if got := get(t, c, "dir/big", ""); !bytes.Equal(got, body) {
		t.Errorf("the object differs: %d bytes of %d", len(got), len(body))
	}
	if got := get(t, c, "dir/big", "bytes=1000000-1999999"); !bytes.Equal(got, body[1000000:2000000]) {
		t.Errorf("the range differs: %d bytes of 1000000", len(got))
	}
	if got := get(t, c, "dir/big", "bytes=3145720-"); !bytes.Equal(got, body[3145720:]) {
		t.Errorf("the open range differs: %d bytes of 8", len(got))
	}
	if got := get(t, c, "dir/empty", ""); len(got) != 0 {
		t.Errorf("the empty object has %d bytes", len(got))
	}
	list, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: aws.String("dir/")})
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, o := range list.Contents {
		keys = append(keys, *o.Key)
	}
	if got := strings.Join(keys, " "); got != "dir/big dir/empty" {
		t.Errorf("the list is %q", got)
	}
	_, err = c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("missing")})
	if noKey := new(types.NoSuchKey); !errors.As(err, &noKey) {
		t.Errorf("a missing object gives %v", err)
	}
	_, err = c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("no-bucket"), Key: aws.String("x")})
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "NoSuchBucket" {
		t.Errorf("a missing bucket gives %v", err)
	}
}

func TestAnotherProcessIsConfiguredByEnvironment(t *testing.T) {
	srv := startServer(t, Config{})
	createBucket(t, srv.Client())
	put(t, srv.Client(), "key", []byte("hello"))

	for name, value := range srv.Env() {
		t.Setenv(name, value)
	}
	t.Setenv("AWS_CA_BUNDLE", "")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithHTTPClient(&http.Client{Transport: transport}))
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, s3.NewFromConfig(cfg), "key", ""); string(got) != "hello" {
		t.Errorf("got %q", got)
	}
}

func TestExistingObjectsAreNotReplacedUnderIfNoneMatch(t *testing.T) {
	srv := startServer(t, Config{})
	c := srv.Client()
	createBucket(t, c)

	t.Run("PutObject", func(t *testing.T) {
		in := func(body string) *s3.PutObjectInput {
			return &s3.PutObjectInput{
				Bucket: aws.String(bucket), Key: aws.String("put"),
				Body: strings.NewReader(body), IfNoneMatch: aws.String("*"),
			}
		}
		if _, err := c.PutObject(t.Context(), in("first")); err != nil {
			t.Fatal(err)
		}
		_, err := c.PutObject(t.Context(), in("second"))
		if got := status(t, err); got != http.StatusPreconditionFailed {
			t.Errorf("the second put got status %d", got)
		}
		if got := get(t, c, "put", ""); string(got) != "first" {
			t.Errorf("the object is %q", got)
		}
	})
	t.Run("CompleteMultipartUpload", func(t *testing.T) {
		if err := multipart(t, c, "multi", pattern(5<<20), []byte("end")); err != nil {
			t.Fatal(err)
		}
		want := append(pattern(5<<20), "end"...)
		if got := get(t, c, "multi", ""); !bytes.Equal(got, want) {
			t.Errorf("the object differs: %d bytes of %d", len(got), len(want))
		}
		err := multipart(t, c, "multi", []byte("other"))
		if got := status(t, err); got != http.StatusPreconditionFailed {
			t.Errorf("the second upload got status %d", got)
		}
		if got := get(t, c, "multi", "bytes=0-99"); !bytes.Equal(got, want[:100]) {
			t.Error("the object was replaced")
		}
	})
}

// multipart uploads an object in parts unless it exists.
func multipart(t *testing.T, c *s3.Client, key string, parts ...[]byte) error {
	t.Helper()
	up, err := c.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: aws.String(bucket), Key: aws.String(key)})
	if err != nil {
		t.Fatal(err)
	}
	var done []types.CompletedPart
	for i, body := range parts {
		part, err := c.UploadPart(t.Context(), &s3.UploadPartInput{
			Bucket: aws.String(bucket), Key: aws.String(key), UploadId: up.UploadId,
			PartNumber: aws.Int32(int32(i + 1)), Body: bytes.NewReader(body),
		})
		if err != nil {
			t.Fatal(err)
		}
		done = append(done, types.CompletedPart{ETag: part.ETag, PartNumber: aws.Int32(int32(i + 1))})
	}
	_, err = c.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{
		Bucket: aws.String(bucket), Key: aws.String(key), UploadId: up.UploadId, IfNoneMatch: aws.String("*"),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: done},
	})
	return err
}

func TestWrongCredentialsAreRefused(t *testing.T) {
	srv := startServer(t, Config{})
	createBucket(t, srv.Client())
	put(t, srv.Client(), "key", []byte("hello"))
	tests := []struct {
		name     string
		provider aws.CredentialsProvider
		want     int
	}{
		{"wrong secret", credentials.NewStaticCredentialsProvider(srv.Credentials().AccessKeyID, "wrong", ""), http.StatusForbidden},
		// S3 itself says 403 here; the gateway finds no such user.
		{"unknown key", credentials.NewStaticCredentialsProvider("UNKNOWN", srv.Credentials().SecretAccessKey, ""), http.StatusNotFound},
		{"no signature", aws.AnonymousCredentials{}, http.StatusForbidden},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := s3.NewFromConfig(srv.AWSConfig(), func(o *s3.Options) { o.Credentials = tt.provider })
			_, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("key")})
			if got := status(t, err); got != tt.want {
				t.Errorf("got status %d", got)
			}
		})
	}
}

func TestObjectsOutliveTheServersDeath(t *testing.T) {
	srv := startServer(t, Config{})
	c := srv.Client()
	createBucket(t, c)
	body := pattern(1 << 20)
	put(t, c, "key", body)
	before, pid := srv.Endpoint(), srv.PID()

	srv.Kill()
	if _, err := srv.Stats(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("the counts of a stopped server: %v", err)
	}
	if srv.PID() != 0 {
		t.Errorf("a stopped server has process id %d", srv.PID())
	}
	if err := srv.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if srv.Endpoint() != before || srv.PID() == pid {
		t.Errorf("restarted at %s as %d, was %s as %d", srv.Endpoint(), srv.PID(), before, pid)
	}
	if got := get(t, c, "key", ""); !bytes.Equal(got, body) {
		t.Errorf("the object differs: %d bytes of %d", len(got), len(body))
	}
	stats, err := srv.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := stats.Total().Requests; got != 1 {
		t.Errorf("a restarted server counts %d requests, not from zero", got)
	}
}

func TestServerThatWasKilledFromOutsideSaysSo(t *testing.T) {
	srv := startServer(t, Config{})
	if err := syscall.Kill(srv.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for { // the process may still answer while the signal is on its way
		_, err := srv.Stats(t.Context())
		if err == nil {
			continue
		}
		if !strings.Contains(err.Error(), "signal: killed") && !errors.Is(err, syscall.EPIPE) {
			t.Errorf("got %v", err)
		}
		return
	}
}
