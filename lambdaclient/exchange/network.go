package exchange

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/quic-go/quic-go"
)

// Network makes the links of an exchange. [Over] gets one from a signed-in client.
type Network interface {
	// join enters the shuffle's collective, as a producer or as a consumer.
	join(ctx context.Context, s Shuffle) (collective, error)
}

// collective brings the links of one producer or consumer.
type collective interface {
	// next waits for the next link that comes up or fails for good. An error
	// means that no more will come.
	next(ctx context.Context) (linkEvent, error)
	// accept waits for a link that a consumer made anew.
	accept(ctx context.Context) (link, error)
	// connect makes a link anew. The error is errNoPeer if the peer is gone.
	connect(ctx context.Context, peer string) (link, error)
	// leave ends next; links stay.
	leave() error
}

// linkEvent is a link or the failure to have one.
type linkEvent struct {
	peer string
	link link
	err  error
}

// link is a connection to one peer.
type link interface {
	peer() string
	open(ctx context.Context) (stream, error)
	accept(ctx context.Context) (stream, error)
	// done is closed when the link is lost; cause says why then.
	done() <-chan struct{}
	cause() error
	close(code uint64, why string)
	// path is the client's word for it; connect how long it took.
	path() string
	connectDuration() time.Duration
}

// stream is the part of *quic.Stream that is used here.
type stream interface {
	io.Reader
	io.Writer
	io.Closer // of the sending side
	CancelRead(quic.StreamErrorCode)
	CancelWrite(quic.StreamErrorCode)
	SetReadDeadline(time.Time) error
	// Context ends when nothing can be sent any more.
	Context() context.Context
}

var errNoPeer = errors.New("the peer is gone")

// Codes of CONNECTION_CLOSE with which a producer takes its leave.
const (
	closeDone  = 0x42580000 // all consumers have acknowledged
	closeSaved = 0x42580001 // what was not acknowledged is on S3
	closeGone  = 0x42580002 // nothing is saved
)

// Codes of RESET_STREAM and STOP_SENDING.
const (
	streamEnded = 0x4258 // not needed any more
)

// leaveCode finds with which code the peer closed the link.
func leaveCode(err error) (uint64, bool) {
	app, ok := errors.AsType[*quic.ApplicationError](err)
	if !ok || !app.Remote {
		return 0, false
	}
	return uint64(app.ErrorCode), app.ErrorCode >= closeDone && app.ErrorCode <= closeGone
}
