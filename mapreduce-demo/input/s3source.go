package input

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/bradawl/bradawl/mapreduce-demo/store"
)

// ParseS3 splits s3://bucket/prefix. ok is false where s does not begin with s3://.
func ParseS3(s string) (bucket, prefix string, ok bool, err error) {
	rest, ok := strings.CutPrefix(s, "s3://")
	if !ok {
		return "", "", false, nil
	}
	bucket, prefix, _ = strings.Cut(rest, "/")
	if bucket == "" {
		return "", "", true, fmt.Errorf("%q names no bucket; write s3://bucket/prefix", s)
	}
	return bucket, prefix, true, nil
}

// S3 lists the objects below a prefix, sorted by key. Keys that end in a slash
// (folders, as consoles make them) are left out.
func S3(ctx context.Context, client *s3.Client, bucket, prefix string) ([]File, error) {
	place := "s3://" + bucket + "/" + prefix
	var files []File
	pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{
		Bucket: aws.String(bucket), Prefix: aws.String(prefix),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list input %s: %w", place, store.Plain(err))
		}
		for _, o := range page.Contents {
			key := aws.ToString(o.Key)
			if strings.HasSuffix(key, "/") {
				continue
			}
			files = append(files, File{
				Name: "s3://" + bucket + "/" + key,
				Size: aws.ToInt64(o.Size),
				Open: func(ctx context.Context) (io.ReadCloser, error) {
					out, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
					if err != nil {
						return nil, store.Plain(err)
					}
					return out.Body, nil
				},
			})
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("list input %s: there is no object", place)
	}
	return files, nil
}
