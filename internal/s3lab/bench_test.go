package s3lab

import (
	"bytes"
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

func benchServer(b *testing.B) *s3.Client {
	b.Helper()
	srv, err := Start(b.Context(), Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { srv.Close() })
	c := srv.Client()
	if _, err := c.CreateBucket(b.Context(), &s3.CreateBucketInput{Bucket: aws.String(bucket)}); err != nil {
		b.Fatal(err)
	}
	return c
}

func BenchmarkPutSmall(b *testing.B) {
	c := benchServer(b)
	body := pattern(1000)
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, err := c.PutObject(b.Context(), &s3.PutObjectInput{
				Bucket: aws.String(bucket), Key: aws.String(fmt.Sprint(n.Add(1))), Body: bytes.NewReader(body),
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkGetLarge reads whole objects, which the kernel sends by itself, and
// ranges, which pass through the server's buffers.
func BenchmarkGetLarge(b *testing.B) {
	const size = 64 << 20
	c := benchServer(b)
	_, err := c.PutObject(b.Context(), &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String("big"), Body: bytes.NewReader(pattern(size))})
	if err != nil {
		b.Fatal(err)
	}
	for name, byteRange := range map[string]*string{"whole": nil, "range": aws.String(fmt.Sprintf("bytes=1-%d", size))} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				out, err := c.GetObject(b.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("big"), Range: byteRange})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, out.Body); err != nil {
					b.Fatal(err)
				}
				out.Body.Close()
			}
		})
	}
}
