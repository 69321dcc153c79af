package exchange

import (
	"errors"
	"fmt"
)

var (
	// ErrClosed is returned for calls on a closed Producer, Consumer or Reader.
	ErrClosed = errors.New("exchange: closed")
	// ErrFinished is returned for writes after Finish.
	ErrFinished = errors.New("exchange: partitions are finished, no more can be written")
	// ErrProtocol marks bytes on a link that are no frame of this protocol.
	ErrProtocol = errors.New("exchange: protocol error")
	// ErrRecord marks a commit record that cannot be used.
	ErrRecord = errors.New("exchange: bad commit record")
)

// LostError says that nothing can deliver a producer's partition any more:
// the producer is gone, and S3 has no usable object of it. Run the producer
// again, as a new attempt and with Attempts as its Replaces, and then the
// consumer.
type LostError struct {
	// Producer is the index of the lost producer.
	Producer int
	// Attempts are those of which a link or an object was seen, ascending.
	Attempts []int
	// Err is the last failure.
	Err error
}

// Error tells which producer is lost, and why.
func (e *LostError) Error() string {
	return fmt.Sprintf("exchange: producer %d is lost (attempts seen: %v), run it again: %v", e.Producer, e.Attempts, e.Err)
}

// Unwrap gives the last failure.
func (e *LostError) Unwrap() error { return e.Err }

// LinkError says, in mode Direct, that a producer is there but no link to it
// can be had. Running it again will hardly help; another mode will.
type LinkError struct {
	// Producer is the index, Peer the name of the producer's last attempt seen.
	Producer int
	Peer     string
	// Err is why, typically a *client.Error.
	Err error
}

// Error tells which link failed, and why.
func (e *LinkError) Error() string {
	return fmt.Sprintf("exchange: no direct link to producer %d (%s), use mode auto or s3: %v", e.Producer, e.Peer, e.Err)
}

// Unwrap gives the cause.
func (e *LinkError) Unwrap() error { return e.Err }

// ChecksumError says that a partition's bytes are not those that the producer
// wrote. What was read of it must be thrown away; opening it again tries once
// more, and then other sources.
type ChecksumError struct {
	// Source is where the bytes came from at the end.
	Source Source
	// Want and Got are CRC-32C sums.
	Want, Got uint32
}

// Error tells which partition is wrong.
func (e *ChecksumError) Error() string {
	return fmt.Sprintf("exchange: partition from %s: CRC-32C is %08x, not %08x: discard what was read and open it again", e.Source, e.Got, e.Want)
}

// RestartError says that only another attempt can deliver the rest of a
// partition, and that its bytes differ from those handed on already. Discard
// them and open the producer again.
type RestartError struct {
	// Producer is the index; Was and Now are the two attempts.
	Producer, Was, Now int
}

// Error tells which attempts differ.
func (e *RestartError) Error() string {
	return fmt.Sprintf("exchange: producer %d: attempt %d differs from attempt %d read so far: discard what was read and open it again", e.Producer, e.Now, e.Was)
}

// UnsavedError is returned by [Producer.Wait] when the producer had to leave
// with partitions that were neither acknowledged nor written to S3.
type UnsavedError struct {
	// Partitions are their indexes, ascending.
	Partitions []int
	// Err is why they were not written; nil if the mode or policy forbade it.
	Err error
}

// Error tells how many partitions are at risk, and why.
func (e *UnsavedError) Error() string {
	why := "the mode does not write to S3"
	if e.Err != nil {
		why = e.Err.Error()
	}
	return fmt.Sprintf("exchange: %d partitions neither acknowledged nor on S3: %s", len(e.Partitions), why)
}

// Unwrap gives the failure of the write, if there was one.
func (e *UnsavedError) Unwrap() error { return e.Err }

// StoreError is a failed operation on S3.
type StoreError struct {
	// Op is what was tried, as "write data"; Key is the object.
	Op, Key string
	// Err is the SDK's error.
	Err error
}

// Error tells what was tried on which object.
func (e *StoreError) Error() string {
	return fmt.Sprintf("exchange: %s %s: %v", e.Op, e.Key, e.Err)
}

// Unwrap gives the SDK's error.
func (e *StoreError) Unwrap() error { return e.Err }
