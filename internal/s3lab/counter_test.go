package s3lab

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sync/errgroup"
)

func statsOf(t *testing.T, srv *Server) Stats {
	t.Helper()
	s, err := srv.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCountsAreExact(t *testing.T) {
	srv := startServer(t, Config{})
	c := srv.Client()
	ctx := t.Context()
	createBucket(t, c)
	put(t, c, "big", pattern(2<<20))
	put(t, c, "small", pattern(100))
	get(t, c, "big", "")
	get(t, c, "big", "bytes=100-1099")
	if _, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String("big")}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String(bucket)}); err != nil {
		t.Fatal(err)
	}
	if err := multipart(t, c, "multi", pattern(5<<20), pattern(7)); err != nil {
		t.Fatal(err)
	}
	if err := multipart(t, c, "multi", pattern(1)); status(t, err) != http.StatusPreconditionFailed {
		t.Fatal(err)
	}
	if _, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("missing")}); err == nil {
		t.Fatal("read a missing object")
	}
	if _, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String("missing")}); err == nil {
		t.Fatal("found a missing object")
	}
	_, err := c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: aws.String(bucket), Key: aws.String("copy"), CopySource: aws.String(bucket + "/small")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: aws.String("small")}); err != nil {
		t.Fatal(err)
	}
	_, err = c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: aws.String(bucket), Delete: &types.Delete{
		Objects: []types.ObjectIdentifier{{Key: aws.String("big")}, {Key: aws.String("copy")}},
	}})
	if err != nil {
		t.Fatal(err)
	}

	got := statsOf(t, srv)
	missing := got.Operations["GetObject"].BytesOut - (2<<20 + 1000) // the error's body
	want := Stats{Model: "off", Operations: map[string]Operation{
		"CreateBucket":            {Requests: 1},
		"PutObject":               {Requests: 2, BytesIn: 2<<20 + 100},
		"GetObject":               {Requests: 3, BytesOut: 2<<20 + 1000 + missing, Errors: map[int]uint64{404: 1}},
		"HeadObject":              {Requests: 2, Errors: map[int]uint64{404: 1}},
		"ListObjectsV2":           {Requests: 1},
		"CreateMultipartUpload":   {Requests: 2},
		"UploadPart":              {Requests: 3, BytesIn: 5<<20 + 8},
		"CompleteMultipartUpload": {Requests: 2, Errors: map[int]uint64{412: 1}},
		"CopyObject":              {Requests: 1},
		"DeleteObject":            {Requests: 1},
		"DeleteObjects":           {Requests: 1},
	}}
	// XML documents have whatever size they have, but they are counted.
	documents := map[string]bool{"ListObjectsV2": true, "CreateMultipartUpload": true, "CompleteMultipartUpload": true, "CopyObject": true, "DeleteObjects": true}
	for name := range documents {
		if got.Operations[name].BytesOut == 0 {
			t.Errorf("no bytes were counted for the answers to %s", name)
		}
	}
	if n := got.Operations["CompleteMultipartUpload"].BytesIn; n == 0 {
		t.Error("no bytes were counted for the bodies of CompleteMultipartUpload")
	}
	opts := cmp.Options{
		cmpopts.EquateEmpty(),
		cmp.FilterPath(func(p cmp.Path) bool {
			for _, step := range p {
				if key, ok := step.(cmp.MapIndex); ok && documents[key.Key().String()] {
					return strings.HasPrefix(p.Last().String(), ".Bytes")
				}
			}
			return false
		}, cmp.Ignore()),
	}
	if diff := cmp.Diff(want, got, opts); diff != "" {
		t.Errorf("counts differ (-want +got):\n%s", diff)
	}
	if missing == 0 || missing > 2000 {
		t.Errorf("the error's body was counted as %d bytes", missing)
	}
}

func TestCountsAreExactUnderLoad(t *testing.T) {
	srv := startServer(t, Config{})
	c := srv.Client()
	createBucket(t, c)
	before := statsOf(t, srv)
	const clients, rounds, size = 8, 10, 20_000
	var g errgroup.Group
	for i := range clients {
		g.Go(func() error {
			for j := range rounds {
				key := aws.String(fmt.Sprintf("%d/%d", i, j))
				_, err := c.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(bucket), Key: key, Body: bytes.NewReader(pattern(size))})
				if err != nil {
					return err
				}
				out, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: key})
				if err != nil {
					return err
				}
				n, err := io.Copy(io.Discard, out.Body)
				if err = errors.Join(err, out.Body.Close()); err != nil || n != size {
					return fmt.Errorf("read %d bytes: %w", n, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	const n = clients * rounds
	want := Stats{Model: "off", Operations: map[string]Operation{
		"PutObject": {Requests: n, BytesIn: n * size},
		"GetObject": {Requests: n, BytesOut: n * size},
	}}
	if diff := cmp.Diff(want, statsOf(t, srv).Sub(before)); diff != "" {
		t.Errorf("counts differ (-want +got):\n%s", diff)
	}
}

func TestBytesThatWereNotSentAreNotCounted(t *testing.T) {
	srv := startServer(t, Config{})
	c := srv.Client()
	createBucket(t, c)
	const size = 64 << 20 // much more than the socket's buffers hold
	put(t, c, "big", pattern(size))
	signed, err := s3.NewPresignClient(c).PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("big")})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(signed.URL)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", srv.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", u.RequestURI(), u.Host); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil { // unread data: the server gets a reset
		t.Fatal(err)
	}
	for { // until the server has noticed
		op := statsOf(t, srv).Operations["GetObject"]
		if op.BytesOut == size {
			continue
		}
		if op.Requests != 1 || op.BytesOut > size || op.BytesOut < 1<<19 {
			t.Errorf("counted %+v", op)
		}
		return
	}
}

func TestStatsSubtract(t *testing.T) {
	a := Stats{Operations: map[string]Operation{
		"GetObject": {Requests: 3, BytesOut: 30, Errors: map[int]uint64{404: 1}},
		"PutObject": {Requests: 1, BytesIn: 5},
	}}
	b := Stats{Operations: map[string]Operation{
		"GetObject": {Requests: 7, BytesOut: 50, Errors: map[int]uint64{404: 1, 412: 2}},
		"PutObject": {Requests: 1, BytesIn: 5},
	}}
	want := Stats{Operations: map[string]Operation{"GetObject": {Requests: 4, BytesOut: 20, Errors: map[int]uint64{412: 2}}}}
	if diff := cmp.Diff(want, b.Sub(a)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	total := b.Total()
	if diff := cmp.Diff(Operation{Requests: 8, BytesIn: 5, BytesOut: 50, Errors: map[int]uint64{404: 1, 412: 2}}, total); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if total.Failed() != 3 {
		t.Errorf("%d failed", total.Failed())
	}
}
