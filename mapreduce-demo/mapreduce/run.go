package mapreduce

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A run is a sequence of pairs in key order. Each pair is
//
//	uvarint  bytes shared with the start of the key before (0 for the first)
//	uvarint  n
//	n bytes  the rest of the key
//	uvarint  m
//	m bytes  the value
//
// and the run ends where its bytes end. Sorted keys share long starts, so a
// word costs about as many bytes as it differs from the one before.

// ErrCorrupt says that the bytes of a run, a key or a value make no sense.
var ErrCorrupt = errors.New("corrupt run")

const (
	runBuffer = 64 << 10
	// maxField bounds a key and a value in a run.
	maxField = 1 << 30
)

// RunWriter encodes pairs. It is not safe for concurrent use.
type RunWriter struct {
	w     io.Writer
	buf   []byte
	last  []byte
	size  int64
	begun bool
}

// NewRunWriter returns a writer of one run to w. It buffers; call Flush at the end.
func NewRunWriter(w io.Writer) *RunWriter {
	return &RunWriter{w: w, buf: make([]byte, 0, runBuffer)}
}

// Write adds one pair. Keys must not descend; an error says so.
func (r *RunWriter) Write(key, value []byte) error {
	if len(key) > maxField || len(value) > maxField {
		return fmt.Errorf("a key of %d bytes with a value of %d is too large: the limit is %d each", len(key), len(value), maxField)
	}
	shared := 0
	for limit := min(len(key), len(r.last)); shared < limit && key[shared] == r.last[shared]; shared++ {
	}
	if r.begun && bytes.Compare(key[shared:], r.last[shared:]) < 0 {
		return fmt.Errorf("%w: key %.64q after %.64q", ErrCorrupt, key, r.last)
	}
	r.begun = true
	start := len(r.buf)
	r.buf = binary.AppendUvarint(r.buf, uint64(shared))
	r.buf = binary.AppendUvarint(r.buf, uint64(len(key)-shared))
	r.buf = append(r.buf, key[shared:]...)
	r.buf = binary.AppendUvarint(r.buf, uint64(len(value)))
	r.buf = append(r.buf, value...)
	r.size += int64(len(r.buf) - start)
	r.last = append(r.last[:shared], key[shared:]...)
	if len(r.buf) >= runBuffer-4<<10 {
		return r.Flush()
	}
	return nil
}

// Flush writes what is buffered.
func (r *RunWriter) Flush() error {
	if len(r.buf) == 0 {
		return nil
	}
	_, err := r.w.Write(r.buf)
	r.buf = r.buf[:0]
	return err
}

// Size is the number of encoded bytes so far.
func (r *RunWriter) Size() int64 { return r.size }

// RunReader decodes a run. It takes hostile bytes: it never panics, and memory
// grows only as bytes arrive. It is not safe for concurrent use.
type RunReader struct {
	src   io.Reader
	buf   []byte
	at    int
	end   int
	eof   bool
	key   []byte
	value []byte
	pairs int64
	size  int64
}

// NewRunReader returns a reader of the run in src. It buffers 64 KiB.
func NewRunReader(src io.Reader) *RunReader {
	return &RunReader{src: src, buf: make([]byte, runBuffer)}
}

// Key is the current pair's key, valid until the next call of Next.
func (r *RunReader) Key() []byte { return r.key }

// Value is the current pair's encoded value, valid until the next call of Next.
func (r *RunReader) Value() []byte { return r.value }

// Pairs is the number of pairs read so far.
func (r *RunReader) Pairs() int64 { return r.pairs }

// Size is the number of bytes taken from the source so far.
func (r *RunReader) Size() int64 { return r.size }

// Next moves to the next pair. At the end it returns io.EOF, in the middle of a
// pair io.ErrUnexpectedEOF, for senseless bytes ErrCorrupt, else the source's error.
func (r *RunReader) Next() error {
	shared, err := r.uvarint(true)
	if err != nil {
		return err
	}
	if shared > uint64(len(r.key)) {
		return fmt.Errorf("%w: a key shares %d bytes with one of %d", ErrCorrupt, shared, len(r.key))
	}
	n, err := r.uvarint(false)
	if err != nil {
		return err
	}
	if n > maxField || shared+n > maxField {
		return fmt.Errorf("%w: a key of %d bytes", ErrCorrupt, shared+n)
	}
	if err := r.nextKey(int(shared), int(n)); err != nil {
		return err
	}
	m, err := r.uvarint(false)
	if err != nil {
		return err
	}
	if m > maxField {
		return fmt.Errorf("%w: a value of %d bytes", ErrCorrupt, m)
	}
	if err := r.nextValue(int(m)); err != nil {
		return err
	}
	r.pairs++
	return nil
}

// nextKey replaces the key's end by n bytes of input, and checks the order.
func (r *RunReader) nextKey(shared, n int) error {
	if r.end-r.at >= n {
		rest := r.buf[r.at : r.at+n]
		if r.pairs > 0 && bytes.Compare(rest, r.key[shared:]) < 0 {
			return fmt.Errorf("%w: keys descend after pair %d", ErrCorrupt, r.pairs)
		}
		r.key = append(r.key[:shared], rest...)
		r.at += n
		return nil
	}
	rest, err := r.long(nil, n)
	if err != nil {
		return err
	}
	if r.pairs > 0 && bytes.Compare(rest, r.key[shared:]) < 0 {
		return fmt.Errorf("%w: keys descend after pair %d", ErrCorrupt, r.pairs)
	}
	r.key = append(r.key[:shared], rest...)
	return nil
}

func (r *RunReader) nextValue(n int) error {
	if r.end-r.at >= n {
		r.value = append(r.value[:0], r.buf[r.at:r.at+n]...)
		r.at += n
		return nil
	}
	var err error
	r.value, err = r.long(r.value[:0], n)
	return err
}

// long appends n bytes to dst that may span several fills of the buffer.
func (r *RunReader) long(dst []byte, n int) ([]byte, error) {
	for n > 0 {
		if r.at == r.end {
			if err := r.fill(); err != nil {
				if err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				return dst, err
			}
		}
		take := min(n, r.end-r.at)
		dst = append(dst, r.buf[r.at:r.at+take]...)
		r.at += take
		n -= take
	}
	return dst, nil
}

// uvarint reads one varint. Only the first byte of a pair may meet the end.
func (r *RunReader) uvarint(first bool) (uint64, error) {
	var v uint64
	for shift := uint(0); shift < 64; shift += 7 {
		if r.at == r.end {
			if err := r.fill(); err != nil {
				if err == io.EOF && (!first || shift > 0) {
					err = io.ErrUnexpectedEOF
				}
				return 0, err
			}
		}
		b := r.buf[r.at]
		r.at++
		if b < 0x80 {
			if shift == 63 && b > 1 {
				break
			}
			return v | uint64(b)<<shift, nil
		}
		v |= uint64(b&0x7f) << shift
	}
	return 0, fmt.Errorf("%w: a length is no varint", ErrCorrupt)
}

// fill replaces the used-up buffer; it returns only with bytes or an error.
func (r *RunReader) fill() error {
	if r.eof {
		return io.EOF
	}
	for range 100 {
		n, err := r.src.Read(r.buf)
		r.at, r.end = 0, n
		r.size += int64(n)
		if err == io.EOF {
			r.eof, err = true, nil
			if n == 0 {
				return io.EOF
			}
		}
		if n > 0 && err == nil {
			return nil
		}
		if err != nil {
			r.end = 0
			return err
		}
	}
	return io.ErrNoProgress
}
