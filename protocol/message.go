package protocol

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
)

// ErrMessageTooLarge says that a frame announced more bytes than the reader's bound.
var ErrMessageTooLarge = errors.New("message too large")

// WriteMessage writes one frame of the control stream, protobuf's delimited
// format: the length as a base-128 varint, then the message. It calls w.Write
// once, so that a frame is not split by writers that interleave.
func WriteMessage(w io.Writer, m proto.Message) error {
	if _, err := protodelim.MarshalTo(w, m); err != nil {
		return fmt.Errorf("write %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}

// ReadMessage reads one frame into m. It returns io.EOF when the stream ends
// between frames, io.ErrUnexpectedEOF when it ends within one, and an error
// that wraps ErrMessageTooLarge, without reading the message, when the frame
// announces more than limit bytes.
func ReadMessage(r *bufio.Reader, m proto.Message, limit int) error {
	err := protodelim.UnmarshalOptions{MaxSize: int64(limit)}.UnmarshalFrom(r, m)
	var large *protodelim.SizeTooLargeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &large):
		return fmt.Errorf("read %s of %d bytes, limit %d: %w", m.ProtoReflect().Descriptor().Name(), large.Size, limit, ErrMessageTooLarge)
	case errors.Is(err, io.EOF):
		return io.EOF
	default:
		return fmt.Errorf("read %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
}
