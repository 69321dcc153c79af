package exchange

import (
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// S3Store is where the partitions go on S3. It may be shared by producers and
// consumers, also at the same time.
type S3Store struct {
	// Client makes the requests. Each producer and consumer counts its own.
	Client *s3.Client
	// Bucket must exist. The credentials need GetObject, PutObject,
	// AbortMultipartUpload and ListBucket (without the last, S3 answers 403
	// instead of 404 for a record that is not there yet).
	Bucket string
	// Prefix goes before all keys; may be empty. A "/" at its end is optional.
	Prefix string

	// rate is the slowest upload rate measured, in bytes per second.
	rate atomic.Int64
}
