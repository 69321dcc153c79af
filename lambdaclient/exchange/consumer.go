package exchange

import "context"

// Consumer reads one partition of every producer. Its methods may be called
// concurrently.
type Consumer struct{}

// NewConsumer joins the collective and starts to make links. ctx bounds the
// consumer's whole life.
func NewConsumer(ctx context.Context, cfg ConsumerConfig) (*Consumer, error) { return nil, ErrClosed }

// Open starts to read the consumer's partition of the given producer, and
// returns when a source has answered with its size. It waits for a producer
// that is not there or not finished yet. ctx bounds the whole read, not only
// the call. Errors: [*LostError], [*LinkError] (mode Direct), [*StoreError]
// (mode S3) or that of ctx. Several producers may, and for speed should, be
// read at the same time.
func (c *Consumer) Open(ctx context.Context, producer int) (*Reader, error) { return nil, ErrClosed }

// Ack tells every producer that this consumer's output is committed, so that
// its partition need not be kept any more. It is best effort and bounded in
// time: a producer that cannot be reached stays for its time-to-live, no more.
// Producers whose partition came from S3 get one only if a link is at hand.
// The error is that of ctx or ErrClosed; Report says who confirmed.
func (c *Consumer) Ack(ctx context.Context) error { return ErrClosed }

// Report says what has happened so far.
func (c *Consumer) Report() ConsumerReport { return ConsumerReport{} }

// Close ends all reads, leaves the collective and closes the links.
func (c *Consumer) Close() error { return nil }

// Reader is one read of one partition. It is used by one goroutine at a time.
// What it gives is provisional until it says io.EOF: only then have length and
// checksum been found right. Any other error means that what was read must be
// thrown away: [*ChecksumError] and [*RestartError] (open it again),
// [*LostError], [*LinkError], or that of the context.
type Reader struct{}

// Read hands on bytes as they arrive.
func (r *Reader) Read(p []byte) (int, error) { return 0, ErrClosed }

// Close ends the read; it may be called at any time, also twice.
func (r *Reader) Close() error { return nil }

// Size is the partition's length in bytes.
func (r *Reader) Size() int64 { return 0 }

// Source says where the bytes come from at present.
func (r *Reader) Source() Source { return Source{} }
