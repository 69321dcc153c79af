package exchange

import (
	"fmt"
	"time"
)

// KeepCause says why a partition was not written to S3.
type KeepCause string

// The causes for which a partition stays in memory only.
const (
	KeptAcked  KeepCause = "acknowledged first"
	KeptOpen   KeepCause = "no rule asks for it yet"
	KeptMode   KeepCause = "the mode does not write"
	KeptOther  KeepCause = "another attempt had saved it"
	KeptFailed KeepCause = "the write failed"
)

// Decision says for one partition why it was written to S3 or not, and what
// came of it. The dollars are reckoned by the policy's Costs, and 0 without them.
type Decision struct {
	Partition int   `json:"partition"`
	Bytes     int64 `json:"bytes"`
	// Sync is the rule for which the partition was written; empty if it was not, and
	// then Kept says why.
	Sync SyncCause `json:"sync,omitempty"`
	Kept KeepCause `json:"kept,omitempty"`
	// Wait is how long the partition was neither acknowledged nor on S3.
	Wait time.Duration `json:"wait_ns"`
	// Cost is the partition's share of what the producer's waiting cost, of the
	// transfer if that is charged, and of the write with the reads that follow from it.
	Cost float64 `json:"cost"`
	// Saved is what writing at once would have cost, less Cost: negative where writing
	// at once would have been the cheaper way.
	Saved float64 `json:"saved"`
}

// String says it in a sentence.
func (d Decision) String() string {
	why := "not written: " + string(d.Kept)
	if d.Sync != SyncNone {
		why = "written: " + string(d.Sync)
	}
	return fmt.Sprintf("partition %d (%d bytes) %s, after %v; cost $%.3g, saved $%.3g", d.Partition, d.Bytes, why, d.Wait, d.Cost, d.Saved)
}

// maxDecisions bounds a report.
const maxDecisions = 4096

// account is what a producer knows of its partitions' fates.
type account struct {
	now      time.Time // or when the producer left
	finished time.Time
	mode     Mode
	policy   Policy
	rate     float64
	parts    []fate

	sync    SyncCause // of the write that took place or was tried
	durable time.Time // zero: no write has succeeded
	won     bool
	failed  bool // no further write is tried
}

// fate is what became of a partition.
type fate struct {
	bytes   int64
	acked   time.Time // zero: not yet
	written bool      // the durable write has it
}

// explain accounts for every partition.
func (a *account) explain() []Decision {
	list := make([]Decision, len(a.parts))
	var all, wrote situation
	var waits, longest time.Duration
	for i, f := range a.parts {
		d := &list[i]
		d.Partition, d.Bytes = i, f.bytes
		end := a.now
		all.unacked++
		all.unackedBytes += f.bytes
		switch {
		case f.written:
			wrote.unacked++
			wrote.unackedBytes += f.bytes
			d.Sync, end = a.sync, a.durable
			if !a.won {
				d.Sync, d.Kept = SyncNone, KeptOther
			}
			if !f.acked.IsZero() { // meanwhile
				end = earlier(end, f.acked)
			}
		case !f.acked.IsZero():
			d.Kept, end = KeptAcked, f.acked
		case a.mode == Direct:
			d.Kept = KeptMode
		case a.failed:
			d.Kept = KeptFailed
		default:
			d.Kept = KeptOpen
		}
		d.Wait = max(end.Sub(a.finished), 0)
		waits += d.Wait
		longest = max(longest, d.Wait)
	}
	c := &a.policy.Costs
	rent := c.Rates.Compute(c.MemoryMB, longest)
	for i, f := range a.parts {
		d := &list[i]
		if waits > 0 {
			d.Cost += rent * float64(d.Wait) / float64(waits)
		}
		if f.written {
			d.Cost += a.share(&wrote, f.bytes)
		} else if d.Kept == KeptAcked {
			d.Cost += c.Rates.Direct(f.bytes)
		}
		d.Saved = a.share(&all, f.bytes) - d.Cost
	}
	return list
}

// share is a partition's part of the price of a write: requests go by heads,
// the rest by bytes.
func (a *account) share(w *situation, bytes int64) float64 {
	c := &a.policy.Costs
	w.policy, w.rate = a.policy, a.rate
	each := c.Rates.Store(writeRequests(w.unackedBytes), readsPerPartition*int64(w.unacked), 0, 0) / float64(w.unacked)
	if w.unackedBytes == 0 {
		return each
	}
	perByte := c.Rates.Store(0, 0, w.unackedBytes, w.unackedBytes) + c.Rates.Compute(c.MemoryMB, w.uploadTime())
	return each + perByte*float64(bytes)/float64(w.unackedBytes)
}
