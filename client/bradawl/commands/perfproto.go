package commands

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// A perf stream is a bidirectional stream that begins with
//
//	0                  16     17    20         24              32
//	+------------------+------+-----+----------+---------------+
//	| magic            | dirs | 0   | size     | duration (ns) |
//	+------------------+------+-----+----------+---------------+
//
// in network byte order. dirs has bit 0 set if the opener sends and bit 1 if the
// answering side does. Who sends writes messages of size bytes for the duration,
// on its direction of the stream. The opener then ends its direction. The answering side,
// when it has read that end and sent all of its own, writes a trailer and ends:
//
//	0                   8                 16
//	+-------------------+-----------------+
//	| bytes received    | in how many ns  |
//	+-------------------+-----------------+
//
// where the time runs from the header to the end of what came in. Several
// streams are independent of one another. A header that breaks the bounds below is
// answered by a reset with code perfRefused, as is one stream too many.
const (
	perfMagic      = "\xb5bradawl perf/1\n"
	perfHeaderLen  = len(perfMagic) + 16
	perfTrailerLen = 16

	perfUp   = 1 // the opener sends
	perfDown = 2 // the answering side sends

	perfMaxSize     = 1 << 20
	perfMaxDuration = time.Hour
	// perfMaxStreams bounds what one process answers at once.
	perfMaxStreams = 256
	// perfGrace is how long a transfer may outlast its duration.
	perfGrace = 30 * time.Second

	perfRefused = 0x70657266
)

// perfRequest is a stream's header.
type perfRequest struct {
	dirs     byte
	size     int
	duration time.Duration
}

func (r perfRequest) check() error {
	switch {
	case r.dirs&^(perfUp|perfDown) != 0 || r.dirs == 0:
		return fmt.Errorf("directions %#x are not known", r.dirs)
	case r.size < 1 || r.size > perfMaxSize:
		return fmt.Errorf("size %d is not from 1 to %d", r.size, perfMaxSize)
	case r.duration <= 0 || r.duration > perfMaxDuration:
		return fmt.Errorf("duration %v is not from 1ns to %v", r.duration, perfMaxDuration)
	}
	return nil
}

func (r perfRequest) append(b []byte) []byte {
	b = append(b, perfMagic...)
	b = append(b, r.dirs, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(r.size))
	return binary.BigEndian.AppendUint64(b, uint64(r.duration))
}

// parsePerf reads a header; b begins with the magic.
func parsePerf(b []byte) (perfRequest, error) {
	if len(b) != perfHeaderLen || !bytes.HasPrefix(b, []byte(perfMagic)) {
		return perfRequest{}, errors.New("not a perf header")
	}
	b = b[len(perfMagic):]
	r := perfRequest{dirs: b[0], size: int(binary.BigEndian.Uint32(b[4:])), duration: time.Duration(binary.BigEndian.Uint64(b[8:]))}
	return r, r.check()
}

// beginsPerf reads from the start of a stream as far as it may be a perf
// header's magic. It returns what it has read, and whether it is one.
func beginsPerf(r io.Reader) (read []byte, is bool, err error) {
	b := make([]byte, len(perfMagic))
	n := 0
	for n < len(b) {
		k, err := r.Read(b[n:])
		n += k
		if string(b[:n]) != perfMagic[:n] || err != nil && n < len(b) {
			return b[:n], false, err
		}
	}
	return b, true, nil
}

// sendFor writes messages until the time is over, and counts.
func sendFor(w io.Writer, r perfRequest, count *atomic.Int64) error {
	b := make([]byte, r.size)
	for i := range b {
		b[i] = byte(i * 7)
	}
	for end := time.Now().Add(r.duration); time.Now().Before(end); {
		n, err := w.Write(b)
		count.Add(int64(n))
		if err != nil {
			return err
		}
	}
	return nil
}

// perfStream is what both sides need of a stream.
type perfStream interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
}

// answerPerf is the answering side, after the magic was read.
func answerPerf(s perfStream) error {
	began := time.Now()
	_ = s.SetDeadline(began.Add(perfGrace))
	h := append([]byte(perfMagic), make([]byte, perfHeaderLen-len(perfMagic))...)
	if _, err := io.ReadFull(s, h[len(perfMagic):]); err != nil {
		return err
	}
	r, err := parsePerf(h)
	if err != nil {
		return err
	}
	_ = s.SetDeadline(began.Add(r.duration + perfGrace))
	sent := make(chan error, 1)
	go func() {
		var n atomic.Int64
		if r.dirs&perfDown == 0 {
			sent <- nil
			return
		}
		sent <- sendFor(s, r, &n)
	}()
	n, err := io.CopyBuffer(onlyWriter{io.Discard}, onlyReader{s}, make([]byte, perfReadBuffer))
	took := time.Since(began)
	if err != nil {
		_ = s.SetDeadline(time.Now()) // ends the sending
	}
	if serr := <-sent; err == nil {
		err = serr
	}
	if err != nil {
		return err
	}
	trailer := binary.BigEndian.AppendUint64(nil, uint64(n))
	if _, err := s.Write(binary.BigEndian.AppendUint64(trailer, uint64(took))); err != nil {
		return err
	}
	return s.Close()
}

// perfReadBuffer is what one Read takes at most.
const perfReadBuffer = 128 << 10

// onlyWriter and onlyReader hide io.ReaderFrom and io.WriterTo, which would choose other buffers.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

// perfTransfer counts what the opener's streams move.
type perfTransfer struct {
	sent, received atomic.Int64 // payload, as it goes on
}

// perfEnd is what one stream came to.
type perfEnd struct {
	up, down             int64 // bytes that arrived
	upSeconds, dnSeconds float64
}

// openPerf is the opener's side of one stream.
func openPerf(s perfStream, r perfRequest, t *perfTransfer) (end perfEnd, err error) {
	began := time.Now()
	_ = s.SetDeadline(began.Add(r.duration + perfGrace))
	sent := make(chan error, 1)
	go func() {
		_, err := s.Write(r.append(nil))
		if err == nil && r.dirs&perfUp != 0 {
			err = sendFor(s, r, &t.sent)
		}
		if err == nil {
			err = s.Close()
		}
		sent <- err
	}()
	defer func() {
		if err != nil {
			_ = s.SetDeadline(time.Now())
		}
		if serr := <-sent; err == nil {
			err = serr
		}
	}()
	// The trailer is the last of what comes in: the tail is held back.
	buf := make([]byte, perfTrailerLen+perfReadBuffer)
	held := 0
	last := began
	for {
		n, err := s.Read(buf[held:])
		have := held + n
		if pass := have - perfTrailerLen; pass > 0 {
			t.received.Add(int64(pass))
			end.down += int64(pass)
			copy(buf, buf[pass:have])
			have = perfTrailerLen
			last = time.Now()
		}
		held = have
		if err == io.EOF {
			break
		}
		if err != nil {
			return end, err
		}
	}
	if held != perfTrailerLen || r.dirs&perfDown == 0 && end.down > 0 {
		return end, fmt.Errorf("the peer does not answer perf: %d bytes came back where %d were due", end.down+int64(held), perfTrailerLen)
	}
	end.dnSeconds = last.Sub(began).Seconds()
	end.up = int64(binary.BigEndian.Uint64(buf))
	end.upSeconds = time.Duration(binary.BigEndian.Uint64(buf[8:])).Seconds()
	return end, nil
}
