package exchange

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"strconv"
	"strings"
)

const (
	recordVersion = 1
	// maxRecord bounds a commit record: 65,536 entries of some 80 bytes.
	maxRecord = 8 << 20
)

// commitRecord is the JSON object that names a producer's winning attempt.
//
//	{"version":1, "job":"wc-1", "producer":3, "attempt":0,
//	 "key":"7/wc-1/shuffle/3/0-5f0c2a91d3e4b687.data", "size":300,
//	 "partitions":[{"partition":0,"offset":0,"size":100,"crc32c":2868447026},
//	               {"partition":2,"offset":100,"size":200,"crc32c":305419896}]}
//
// Partitions lie back to back in the order of the list, which is ascending and
// leaves out what was acknowledged before. The key is relative to the store's
// prefix; it is empty if size is 0. CRC-32C is that of one whole partition.
type commitRecord struct {
	Version    int           `json:"version"`
	Job        string        `json:"job"`
	Producer   int           `json:"producer"`
	Attempt    int           `json:"attempt"`
	Key        string        `json:"key"`
	Size       int64         `json:"size"`
	Partitions []recordEntry `json:"partitions"`
}

type recordEntry struct {
	Partition int    `json:"partition"`
	Offset    int64  `json:"offset"`
	Size      int64  `json:"size"`
	CRC32C    uint32 `json:"crc32c"`
}

// newRecord makes an attempt's record, still without its key, of the partitions
// that are not acknowledged.
func newRecord(job string, producer, attempt int, acked []bool, of func(partition int) (size int64, crc uint32)) *commitRecord {
	r := &commitRecord{Version: recordVersion, Job: job, Producer: producer, Attempt: attempt, Partitions: []recordEntry{}}
	for i, a := range acked {
		if a {
			continue
		}
		size, crc := of(i)
		r.Partitions = append(r.Partitions, recordEntry{Partition: i, Offset: r.Size, Size: size, CRC32C: crc})
		r.Size += size
	}
	return r
}

// entry finds a partition.
func (r *commitRecord) entry(partition int) (recordEntry, bool) {
	for _, e := range r.Partitions {
		if e.Partition == partition {
			return e, true
		}
	}
	return recordEntry{}, false
}

// spreadOver is how many directories the producers are spread over.
const spreadOver = 16

// spread is the first element of a producer's keys. It does not depend on the
// job alone: S3 takes so many requests per prefix, and splits prefixes under load.
// Where the first element has few values that all jobs share, what it has learnt
// from one job is good for the next; where each job begins its own, it is not.
func spread(job string, producer int) string {
	h := fnv.New32a()
	_, _ = fmt.Fprintf(h, "%s/%d", job, producer) // never fails
	return strconv.FormatUint(uint64(h.Sum32()%spreadOver), 16)
}

func producerDir(job string, producer int) string {
	return spread(job, producer) + "/" + job + "/shuffle/" + strconv.Itoa(producer) + "/"
}

func commitKey(job string, producer int) string { return producerDir(job, producer) + "commit" }

func dataPrefix(job string, producer, attempt int) string {
	return producerDir(job, producer) + strconv.Itoa(attempt) + "-"
}

// decodeRecord reads and checks the record of the given producer. All errors
// wrap ErrRecord. A record that passes may be relied upon: its entries lie in
// the object, its key is one that this attempt may have.
func decodeRecord(b []byte, job string, producer int) (*commitRecord, error) {
	bad := func(format string, args ...any) (*commitRecord, error) {
		return nil, fmt.Errorf("%w of producer %d: %s", ErrRecord, producer, fmt.Sprintf(format, args...))
	}
	if len(b) > maxRecord {
		return bad("%d bytes", len(b))
	}
	d := json.NewDecoder(bytes.NewReader(b))
	r := &commitRecord{}
	if err := d.Decode(r); err != nil {
		return bad("%v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return bad("more than one JSON value")
	}
	if r.Version != recordVersion {
		return bad("version %d, not %d", r.Version, recordVersion)
	}
	if r.Job != job || r.Producer != producer {
		return bad("it belongs to producer %d of job %q", r.Producer, r.Job)
	}
	if r.Attempt < 0 || r.Attempt > maxAttempt {
		return bad("attempt %d", r.Attempt)
	}
	end, last := int64(0), -1
	for _, e := range r.Partitions {
		if e.Partition <= last || e.Partition >= maxSide {
			return bad("partition %d after %d", e.Partition, last)
		}
		if e.Offset != end || e.Size < 0 || e.Size > maxPartition {
			return bad("partition %d has %d bytes at %d, expected at %d", e.Partition, e.Size, e.Offset, end)
		}
		if end, last = end+e.Size, e.Partition; end > maxPartition {
			return bad("%d bytes and more", end)
		}
	}
	if end != r.Size {
		return bad("partitions of %d bytes in an object of %d", end, r.Size)
	}
	if r.Size == 0 {
		if r.Key != "" {
			return bad("an object %q for no bytes", r.Key)
		}
		return r, nil
	}
	rest, ours := strings.CutPrefix(r.Key, dataPrefix(job, producer, r.Attempt))
	nonce, data := strings.CutSuffix(rest, ".data")
	if !ours || !data || nonce == "" || len(nonce) > 64 || strings.Contains(nonce, "/") {
		return bad("object %q is none of attempt %d", r.Key, r.Attempt)
	}
	return r, nil
}
