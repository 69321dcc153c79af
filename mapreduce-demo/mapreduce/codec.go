package mapreduce

import (
	"encoding/binary"
	"fmt"
)

// Codec encodes keys or values. It must be safe for concurrent use.
type Codec[T any] interface {
	// Append adds v's encoding to dst.
	Append(dst []byte, v T) []byte
	// Decode reads one whole encoding. The result may refer to b's memory.
	Decode(b []byte) (T, error)
}

// Bytes encodes a byte slice as itself. Decode does not copy.
type Bytes struct{}

// Append adds v to dst.
func (Bytes) Append(dst []byte, v []byte) []byte { return append(dst, v...) }

// Decode returns b.
func (Bytes) Decode(b []byte) ([]byte, error) { return b, nil }

// Uvarint encodes an unsigned integer as a varint of 1 to 10 bytes, least
// significant group first. It keeps no numeric order, so it is for values.
type Uvarint struct{}

// Append adds v's varint to dst.
func (Uvarint) Append(dst []byte, v uint64) []byte { return binary.AppendUvarint(dst, v) }

// Decode reads one varint that fills b.
func (Uvarint) Decode(b []byte) (uint64, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 || n != len(b) {
		return 0, fmt.Errorf("%w: %d bytes are no single varint", ErrCorrupt, len(b))
	}
	return v, nil
}
