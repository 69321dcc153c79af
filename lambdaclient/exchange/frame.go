package exchange

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// A consumer opens one bidirectional stream per request and sends one frame;
// the producer answers on the same stream. All numbers are big-endian. Every
// frame starts with the same 12 bytes:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-------------------------------+---------------+---------------+
//	|      magic 0x4258 ("BX")      |  version (1)  |     type      |
//	+-------------------------------+---------------+---------------+
//	|                    length of the payload                      |
//	+---------------------------------------------------------------+
//	|       CRC-32C (Castagnoli) of the first 8 bytes + payload     |
//	+---------------------------------------------------------------+
//	|                          payload ...                          |
//
// FETCH (1), consumer to producer: send a partition from offset on.
//
//	+---------------------------------------------------------------+
//	|                 job: the first 8 bytes of the                 |
//	|                     SHA-256 of the job's id                   |
//	+---------------------------------------------------------------+
//	|                            producer                           |
//	+---------------------------------------------------------------+
//	|               attempt of the producer (exactly)               |
//	+---------------------------------------------------------------+
//	|                           partition                           |
//	+---------------------------------------------------------------+
//	|                    attempt of the consumer                    |
//	+---------------------------------------------------------------+
//	|                             offset                            |
//	|                                                               |
//	+---------------------------------------------------------------+
//
// PARTITION (2), producer to consumer, as soon as the partition is complete;
// then DATA (3) frames of 1 to 65,536 bytes each, together exactly size -
// offset bytes, then the end of the stream.
//
//	+---------------------------------------------------------------+
//	|                    attempt of the producer                    |
//	+---------------------------------------------------------------+
//	|                 CRC-32C of the whole partition                |
//	+---------------------------------------------------------------+
//	|                     size of the whole partition               |
//	|                                                               |
//	+---------------------------------------------------------------+
//	|                      offset, as asked for                     |
//	|                                                               |
//	+---------------------------------------------------------------+
//
// ACK (4), consumer to producer: the consumer's output is committed, its
// partition need not be kept. The layout is FETCH's, with offset 0 and any
// attempt of the producer. Answered by ACKED (5), with an empty payload.
//
// REFUSED (6), producer to consumer, instead of an answer: a code of four
// bytes, then at most 256 bytes of UTF-8 for people.
type frameType uint8

const (
	frameFetch     frameType = 1
	framePartition frameType = 2
	frameData      frameType = 3
	frameAck       frameType = 4
	frameAcked     frameType = 5
	frameRefused   frameType = 6
)

const (
	frameMagic   = 0x4258
	frameVersion = 1
	headerLen    = 12
	maxData      = 64 << 10
	requestLen   = 32
	partitionLen = 24
	maxRefusal   = 4 + 256
)

// Codes of REFUSED.
const (
	refusedOther   = 1 // the request is not for this producer or this peer
	refusedAttempt = 2 // another attempt is asked for
	refusedRange   = 3 // the offset is beyond the partition's end
)

// castagnoli is a function rather than a variable: the table is made once by hash/crc32.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// payloadBounds gives the smallest and largest payload of a type.
func payloadBounds(t frameType) (low, high uint32, ok bool) {
	switch t {
	case frameFetch, frameAck:
		return requestLen, requestLen, true
	case framePartition:
		return partitionLen, partitionLen, true
	case frameData:
		return 1, maxData, true
	case frameAcked:
		return 0, 0, true
	case frameRefused:
		return 4, maxRefusal, true
	}
	return 0, 0, false
}

// sealFrame completes the header in frame[:headerLen] for the payload behind it.
func sealFrame(frame []byte, t frameType) []byte {
	binary.BigEndian.PutUint16(frame[0:], frameMagic)
	frame[2] = frameVersion
	frame[3] = byte(t)
	binary.BigEndian.PutUint32(frame[4:], uint32(len(frame)-headerLen))
	sum := crc32.Update(crc32.Checksum(frame[:8], castagnoli()), castagnoli(), frame[headerLen:])
	binary.BigEndian.PutUint32(frame[8:], sum)
	return frame
}

// readFrame reads one frame. The payload lies in buf if that is large enough.
// It allocates no more than the bounds of the frame's type. Errors that are not
// the reader's own wrap ErrProtocol; a clean end before the first byte is io.EOF.
func readFrame(r io.Reader, buf []byte) (frameType, []byte, error) {
	var h [headerLen]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, err
	}
	if binary.BigEndian.Uint16(h[0:]) != frameMagic || h[2] != frameVersion {
		return 0, nil, fmt.Errorf("%w: a frame starts with %x, not with magic and version %x", ErrProtocol, h[:3], []byte{frameMagic >> 8, frameMagic & 0xff, frameVersion})
	}
	t, n := frameType(h[3]), binary.BigEndian.Uint32(h[4:])
	low, high, ok := payloadBounds(t)
	if !ok || n < low || n > high {
		return 0, nil, fmt.Errorf("%w: a frame of type %d with %d bytes", ErrProtocol, t, n)
	}
	if uint32(cap(buf)) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(r, buf); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	sum := crc32.Update(crc32.Checksum(h[:8], castagnoli()), castagnoli(), buf)
	if want := binary.BigEndian.Uint32(h[8:]); sum != want {
		return 0, nil, fmt.Errorf("%w: a frame of type %d has CRC-32C %08x, not %08x", ErrProtocol, t, sum, want)
	}
	return t, buf, nil
}

// request is the payload of FETCH and ACK.
type request struct {
	job             uint64
	producer        uint32
	attempt         uint32
	partition       uint32
	consumerAttempt uint32
	offset          uint64
}

func (q request) frame(t frameType) []byte {
	b := make([]byte, headerLen, headerLen+requestLen)
	b = binary.BigEndian.AppendUint64(b, q.job)
	b = binary.BigEndian.AppendUint32(b, q.producer)
	b = binary.BigEndian.AppendUint32(b, q.attempt)
	b = binary.BigEndian.AppendUint32(b, q.partition)
	b = binary.BigEndian.AppendUint32(b, q.consumerAttempt)
	b = binary.BigEndian.AppendUint64(b, q.offset)
	return sealFrame(b, t)
}

// parseRequest reads a payload that readFrame found to be of the right length.
func parseRequest(b []byte) request {
	return request{
		job:             binary.BigEndian.Uint64(b),
		producer:        binary.BigEndian.Uint32(b[8:]),
		attempt:         binary.BigEndian.Uint32(b[12:]),
		partition:       binary.BigEndian.Uint32(b[16:]),
		consumerAttempt: binary.BigEndian.Uint32(b[20:]),
		offset:          binary.BigEndian.Uint64(b[24:]),
	}
}

// head describes a whole partition of one attempt: the payload of PARTITION
// and the entry of an index on S3.
type head struct {
	attempt int
	size    int64
	crc     uint32
}

func (h head) frame(offset int64) []byte {
	b := make([]byte, headerLen, headerLen+partitionLen)
	b = binary.BigEndian.AppendUint32(b, uint32(h.attempt))
	b = binary.BigEndian.AppendUint32(b, h.crc)
	b = binary.BigEndian.AppendUint64(b, uint64(h.size))
	b = binary.BigEndian.AppendUint64(b, uint64(offset))
	return sealFrame(b, framePartition)
}

// maxPartition bounds a partition's size: more than any function's disk.
const maxPartition = 1 << 46

// parseHead reads a payload that readFrame found to be of the right length.
func parseHead(b []byte) (h head, offset int64, err error) {
	attempt, size, off := binary.BigEndian.Uint32(b), binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])
	if size > maxPartition || off > size || attempt > maxAttempt {
		return head{}, 0, fmt.Errorf("%w: attempt %d announces %d bytes from %d on", ErrProtocol, attempt, size, off)
	}
	return head{attempt: int(attempt), size: int64(size), crc: binary.BigEndian.Uint32(b[4:])}, int64(off), nil
}

// maxAttempt bounds attempt numbers, so that they fit an int everywhere.
const maxAttempt = 1<<31 - 1

func refusedFrame(code uint32, why string) []byte {
	if len(why) > maxRefusal-4 {
		why = why[:maxRefusal-4]
	}
	b := make([]byte, headerLen, headerLen+4+len(why))
	b = binary.BigEndian.AppendUint32(b, code)
	return sealFrame(append(b, why...), frameRefused)
}

// refusedError is a REFUSED that was received.
type refusedError struct {
	code uint32
	why  string
}

func parseRefused(b []byte) *refusedError {
	return &refusedError{code: binary.BigEndian.Uint32(b), why: string(b[4:])}
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("exchange: the producer refuses (code %d): %q", e.code, e.why)
}

// jobDigest is what stands for the job's id in a request.
func jobDigest(job string) uint64 {
	sum := sha256.Sum256([]byte(job))
	return binary.BigEndian.Uint64(sum[:])
}
