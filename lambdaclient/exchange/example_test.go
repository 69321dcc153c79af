package exchange_test

import (
	"context"
	"errors"
	"io"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/lambdaclient/exchange"
)

// A producer: write, finish, stay until the consumers are done or all is durable.
func ExampleProducer() {
	produce := func(ctx context.Context, c *client.Client, api *s3.Client, partitions [][]byte) error {
		p, err := exchange.NewProducer(ctx, exchange.ProducerConfig{
			Shuffle: exchange.Shuffle{Job: "wc-1", Producers: 8, Consumers: len(partitions)},
			Network: exchange.Over(c),
			Store:   &exchange.S3Store{Client: api, Bucket: "my-bucket"},
			Policy:  exchange.DefaultPolicy(),
		})
		if err != nil {
			return err
		}
		defer p.Close()
		for i, b := range partitions {
			if _, err := p.Partition(i).Write(b); err != nil {
				return err
			}
		}
		if err := p.Finish(ctx); err != nil {
			return err
		}
		_, err = p.Wait(ctx)
		return err
	}
	_ = produce
}

// A consumer: nothing that was read counts before io.EOF; acknowledge after
// the output is committed.
func ExampleConsumer() {
	consume := func(ctx context.Context, cfg exchange.ConsumerConfig, reduce func(io.Reader) error, commit func() error) error {
		c, err := exchange.NewConsumer(ctx, cfg)
		if err != nil {
			return err
		}
		defer c.Close()
		for i := range cfg.Shuffle.Producers {
			r, err := c.Open(ctx, i)
			if err != nil {
				if lost, ok := errors.AsType[*exchange.LostError](err); ok {
					_ = lost.Producer // to be run again, and then this consumer
				}
				return err
			}
			err = reduce(r)
			r.Close()
			if err != nil {
				return err
			}
		}
		if err := commit(); err != nil {
			return err
		}
		return c.Ack(ctx)
	}
	_ = consume
}
