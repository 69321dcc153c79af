package exchange

import "slices"

// The decisions on which "nothing lost, nothing twice" rests. They are pure, so
// that the model in model_test.go is about them and not about a copy of them;
// docs/exchange.md has the invariants.

// recordStep is what a producer does that has found a commit record.
type recordStep uint8

const (
	// recordReplace: the record does not do what ours would. Ours takes its place.
	recordReplace recordStep = iota
	// recordOurs: it is our own write, whose answer got lost.
	recordOurs
	// recordServes: it does all that ours would, provided that its object is there.
	recordServes
)

// onRecord decides about the record that is there; nil is one that cannot be
// read. ours need not have its key yet. replaces are attempts of no use.
func onRecord(existing, ours *commitRecord, replaces []int) recordStep {
	if existing == nil {
		return recordReplace
	}
	if existing.Attempt == ours.Attempt && existing.Key == ours.Key && existing.Size == ours.Size {
		return recordOurs
	}
	if slices.Contains(replaces, existing.Attempt) && existing.Attempt != ours.Attempt {
		return recordReplace
	}
	if existing.Attempt > ours.Attempt {
		// We were thought dead, and another took our place. What its record lacks was
		// acknowledged to it: a zombie has nothing to add.
		return recordServes
	}
	for _, e := range ours.Partitions {
		if _, ok := existing.entry(e.Partition); !ok {
			return recordReplace
		}
	}
	return recordServes
}

// pick says which bytes of a record's object a read goes on with: those of the
// entry from off on. The error says why the record is of no use. banned means
// that what this attempt has on S3 was found bad too often.
func (r *commitRecord) pick(partition int, banned bool, pos position) (e recordEntry, off int64, err error) {
	e, ok := r.entry(partition)
	if !ok {
		return e, 0, errNotInRecord
	}
	if banned {
		return e, 0, errUnusable
	}
	return e, min(pos.offsetFor(r.Attempt), e.Size), nil
}

// joinStep is how a read goes on from a source.
type joinStep uint8

const (
	// joinAdopt: nothing was handed on yet. What the source announces counts.
	joinAdopt joinStep = iota
	// joinResume: it is the same attempt, at the byte where the read broke off.
	joinResume
	// joinCompare: it is another attempt, from byte 0. What was handed on already
	// has to be the same.
	joinCompare
	// joinMismatch: the same attempt announces something else than before.
	joinMismatch
)

// join decides how a read goes on that has come to off of have.
func join(have head, off int64, next head) joinStep {
	switch {
	case have.attempt < 0 || off == 0:
		return joinAdopt
	case have.attempt != next.attempt:
		return joinCompare
	case have != next:
		return joinMismatch
	}
	return joinResume
}

// farewell is the code with which a producer takes its leave: it tells
// consumers where to look next.
func farewell(finished bool, unacked int, saved bool) (code uint64, why string) {
	switch {
	case !finished:
		return closeGone, "given up"
	case unacked == 0:
		return closeDone, "all acknowledged"
	case saved:
		return closeSaved, "saved to S3"
	}
	return closeGone, "given up"
}
