package exchange

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// countedClient is the caller's client, with one use of it counted: every call
// gets the counting as an option. (A second client made from the first one's
// options would share, and write to, some of its insides.)
type countedClient struct {
	c     *s3.Client
	usage *usage
}

type s3Options = []func(*s3.Options)

func (c *countedClient) with(o s3Options) s3Options {
	return append(o[:len(o):len(o)], c.usage.install)
}

func (c *countedClient) PutObject(ctx context.Context, in *s3.PutObjectInput, o ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	return c.c.PutObject(ctx, in, c.with(o)...)
}

func (c *countedClient) UploadPart(ctx context.Context, in *s3.UploadPartInput, o ...func(*s3.Options)) (*s3.UploadPartOutput, error) {
	return c.c.UploadPart(ctx, in, c.with(o)...)
}

func (c *countedClient) CreateMultipartUpload(ctx context.Context, in *s3.CreateMultipartUploadInput, o ...func(*s3.Options)) (*s3.CreateMultipartUploadOutput, error) {
	return c.c.CreateMultipartUpload(ctx, in, c.with(o)...)
}

func (c *countedClient) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput, o ...func(*s3.Options)) (*s3.CompleteMultipartUploadOutput, error) {
	return c.c.CompleteMultipartUpload(ctx, in, c.with(o)...)
}

func (c *countedClient) AbortMultipartUpload(ctx context.Context, in *s3.AbortMultipartUploadInput, o ...func(*s3.Options)) (*s3.AbortMultipartUploadOutput, error) {
	return c.c.AbortMultipartUpload(ctx, in, c.with(o)...)
}

func (c *countedClient) GetObject(ctx context.Context, in *s3.GetObjectInput, o ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	return c.c.GetObject(ctx, in, c.with(o)...)
}

func (c *countedClient) HeadObject(ctx context.Context, in *s3.HeadObjectInput, o ...func(*s3.Options)) (*s3.HeadObjectOutput, error) {
	return c.c.HeadObject(ctx, in, c.with(o)...)
}

func (c *countedClient) ListObjectsV2(ctx context.Context, in *s3.ListObjectsV2Input, o ...func(*s3.Options)) (*s3.ListObjectsV2Output, error) {
	return c.c.ListObjectsV2(ctx, in, c.with(o)...)
}
