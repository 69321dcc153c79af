package exchange

import (
	"context"
	"io"
)

// Producer holds the partitions of one attempt and brings them to their
// consumers. Its methods may be called concurrently, except that one
// partition has one writer at a time.
type Producer struct{}

// NewProducer joins the collective and starts to make links; the links come
// up while the caller still writes. ctx bounds the producer's whole life: its
// end stops all work, and its deadline is that of the deadline rule.
func NewProducer(ctx context.Context, cfg ProducerConfig) (*Producer, error) { return nil, ErrClosed }

// Partition gives the writer of partition i, 0 <= i < Shuffle.Consumers. The
// same i gives the same writer. Close of it is optional; Finish closes all.
func (p *Producer) Partition(i int) io.WriteCloser { return nil }

// Finish ends all partitions and begins to serve them. The clocks of the
// policy start here. With write-through (and in mode S3) it returns when all
// is durable on S3, or with why it is not; the partitions are served in any
// case, and Wait tries again.
func (p *Producer) Finish(ctx context.Context) error { return ErrClosed }

// Wait stays until all consumers have acknowledged, or the policy lets the
// producer go with everything durable. A deadline of ctx is heeded like that
// of NewProducer. If data had to be left behind unsaved the error is an
// [*UnsavedError]; the report is right in any case.
func (p *Producer) Wait(ctx context.Context) (ProducerReport, error) {
	return ProducerReport{}, ErrClosed
}

// Report says what has happened so far.
func (p *Producer) Report() ProducerReport { return ProducerReport{} }

// Close gives up what is not saved, leaves the collective, closes the links
// and frees the memory. Call it after Wait, always.
func (p *Producer) Close() error { return nil }
