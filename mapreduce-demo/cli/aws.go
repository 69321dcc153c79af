package cli

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/bradawl/bradawl/internal/s3lab"
	"github.com/bradawl/bradawl/mapreduce-demo/input"
	"github.com/bradawl/bradawl/mapreduce-demo/output"
	"github.com/bradawl/bradawl/mapreduce-demo/outside"
	"github.com/bradawl/bradawl/mapreduce-demo/store"
)

// ordinaryS3 is S3 as the AWS SDK's configuration files and variables say, on the
// network that the program was started in.
func ordinaryS3(ctx context.Context, v venue) (*s3.Client, error) {
	var opts []func(*config.LoadOptions) error
	if v.wayOut != "" {
		dial := outside.Dialer(v.wayOut).DialContext
		opts = append(opts, config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.DialContext = dial
		})))
	}
	cfg, err := config.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return nil, fmt.Errorf("configure S3: %w", err)
	}
	return s3.NewFromConfig(cfg), nil
}

// target finds where the output goes; nil stands for a temporary directory.
func target(ctx context.Context, path string, v venue) (output.Target, error) {
	if path == "" {
		return nil, nil
	}
	bucket, prefix, remote, err := input.ParseS3(path)
	switch {
	case err != nil:
		return nil, err
	case !remote:
		return output.Directory(path), nil
	}
	client, err := ordinaryS3(ctx, v)
	if err != nil {
		return nil, err
	}
	return output.Bucket{Store: store.New(client, bucket), Prefix: strings.TrimSuffix(prefix, "/")}, nil
}

// counts reads what this process and the S3 server have counted so far.
func (d *demo) counts(ctx context.Context) (store.Usage, s3lab.Stats, error) {
	stats, err := d.stage.S3.Stats(ctx)
	return d.stage.Store.Usage(), stats, err
}
