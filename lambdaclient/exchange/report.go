package exchange

import (
	"fmt"
	"time"
)

// Path is a rung of the ladder.
type Path string

const (
	// PathDirect is a QUIC link from producer to consumer.
	PathDirect Path = "direct"
	// PathS3 is the producer's object on S3.
	PathS3 Path = "s3"
)

// Source says where a partition's bytes come from.
type Source struct {
	// Producer and Attempt say whose bytes they are.
	Producer int `json:"producer"`
	Attempt  int `json:"attempt"`
	// Path is the rung that delivered the last of them.
	Path Path `json:"path"`
}

// String gives "producer 3 attempt 0 by s3".
func (s Source) String() string {
	return fmt.Sprintf("producer %d attempt %d by %s", s.Producer, s.Attempt, s.Path)
}

// Count is a number of requests and the payload bytes that they moved.
type Count struct {
	Requests int64 `json:"requests"`
	Bytes    int64 `json:"bytes"`
}

// S3Usage counts requests to S3 as they went out, repetitions by the SDK
// included. Bytes are those of objects' bodies.
type S3Usage struct {
	// Put counts PutObject and all parts and calls of multipart uploads, which
	// S3 bills alike.
	Put Count `json:"put"`
	// Get, Head and List count GetObject, HeadObject and ListObjectsV2.
	Get  Count `json:"get"`
	Head Count `json:"head"`
	List Count `json:"list"`
	// Other counts every other operation.
	Other Count `json:"other"`
	// Retries is how many of all these repeated a request that had failed;
	// SlowDowns how many were answered 503.
	Retries   int64 `json:"retries"`
	SlowDowns int64 `json:"slow_downs"`
	// Raced is how many of all these were made beside a slow one, RacesWon how many of
	// those were faster.
	Raced    int64 `json:"raced,omitempty"`
	RacesWon int64 `json:"races_won,omitempty"`
}

// LinkResult is what came of one attempt to have a link.
type LinkResult struct {
	// Peer is the other side's name.
	Peer string `json:"peer"`
	// Again is true for links that were made anew after a break.
	Again bool `json:"again,omitempty"`
	// Path is the client's word for the path ("host", "server_reflexive", ...); empty if
	// the link failed.
	Path string `json:"path,omitempty"`
	// Connect is how long the client took to make the link.
	Connect time.Duration `json:"connect_ns,omitempty"`
	// Failure is empty for a link that came up, else the failure's reason.
	Failure string `json:"failure,omitempty"`
}

// SyncCause says why a producer wrote to S3.
type SyncCause string

// The causes of a write to S3.
const (
	SyncNone         SyncCause = ""
	SyncWriteThrough SyncCause = "write-through"
	SyncTimeToSync   SyncCause = "time-to-sync"
	SyncTimeToLive   SyncCause = "time-to-live"
	SyncLink         SyncCause = "link failure"
	SyncDeadline     SyncCause = "deadline"
	// SyncCost is the cost threshold. The others are of the rule auto: waiting has
	// cost as much as the write; so has the chance of loss, which is the greater part;
	// the transfer over links is charged, and dearer; the consumers were announced for too late.
	SyncCost     SyncCause = "cost threshold"
	SyncWaited   SyncCause = "waiting cost as much"
	SyncLoss     SyncCause = "chance of loss"
	SyncTransfer SyncCause = "transfer charges"
	SyncExpected SyncCause = "consumers come too late"
)

// ProducerReport says what a producer did.
type ProducerReport struct {
	Producer int `json:"producer"`
	Attempt  int `json:"attempt"`
	// Bytes is the size of all partitions; Spilled how much of it went to disk.
	Bytes   int64 `json:"bytes"`
	Spilled int64 `json:"spilled"`
	// Direct counts requests served over links and bytes sent.
	Direct Count `json:"direct"`
	// S3 counts this producer's requests to S3.
	S3 S3Usage `json:"s3"`
	// Links has one entry per link that came up or failed.
	Links []LinkResult `json:"links,omitempty"`
	// Lost counts links that broke before the consumer had acknowledged.
	Lost int `json:"lost,omitempty"`
	// Acked is how many partitions were acknowledged, of Partitions.
	Acked      int `json:"acked"`
	Partitions int `json:"partitions"`
	// Sync is why data was written to S3, if it was; Synced that the write is
	// durable, Won that this attempt's commit record is the one that counts.
	Sync   SyncCause `json:"sync,omitempty"`
	Synced bool      `json:"synced,omitempty"`
	Won    bool      `json:"won,omitempty"`
	// SyncTime is how long the write took; Linger the time from Finish to the
	// end of Wait.
	SyncTime time.Duration `json:"sync_ns,omitempty"`
	Linger   time.Duration `json:"linger_ns,omitempty"`
	// Decisions says for every partition, in their order, why it was or was not
	// written; there are none before Finish, and at most 4,096.
	Decisions []Decision `json:"decisions,omitempty"`
}

// PartitionReport says how a consumer read from one producer.
type PartitionReport struct {
	// Source is the last source.
	Source Source `json:"source"`
	// Bytes is the partition's size; Direct and S3 are the bytes received by
	// path, more in sum where some had to be read twice.
	Bytes  int64 `json:"bytes"`
	Direct int64 `json:"direct"`
	S3     int64 `json:"s3"`
	// Breaks counts the times that a read broke off and went on.
	Breaks int `json:"breaks,omitempty"`
	// Done is true when the checksum of the whole was right.
	Done bool `json:"done"`
	// Wait is the time until the first answer and in later breaks; Transfer
	// the rest of the time until the end, the caller's own included.
	Wait     time.Duration `json:"wait_ns"`
	Transfer time.Duration `json:"transfer_ns"`
}

// ConsumerReport says what a consumer did.
type ConsumerReport struct {
	Consumer int `json:"consumer"`
	Attempt  int `json:"attempt"`
	// Direct counts requests over links and bytes received, S3 the requests
	// to S3.
	Direct Count   `json:"direct"`
	S3     S3Usage `json:"s3"`
	// Links has one entry per link that came up or failed.
	Links []LinkResult `json:"links,omitempty"`
	// Retries counts requests and reconnections that repeated a failed one.
	Retries int64 `json:"retries,omitempty"`
	// Partitions has the last read from each producer, in their order; those
	// never opened have no path.
	Partitions []PartitionReport `json:"partitions"`
	// Acked are the producers that confirmed an acknowledgement.
	Acked []int `json:"acked,omitempty"`
}
