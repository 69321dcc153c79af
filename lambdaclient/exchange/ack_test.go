package exchange

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
)

// endingLink ends some time after its streams have.
type endingLink struct {
	link  // not used
	over  chan struct{}
	ended error
}

func (l *endingLink) done() <-chan struct{} { return l.over }
func (l *endingLink) cause() error          { return l.ended }

func TestAnAcknowledgementOutlivesAProducerThatHangsUpBeforeItsAnswer(t *testing.T) {
	leave := func(code quic.ApplicationErrorCode) error {
		return &quic.ApplicationError{Remote: true, ErrorCode: code}
	}
	for name, tc := range map[string]struct {
		stream, link error
		after        time.Duration // between the two
		confirmed    bool
	}{
		"the link says so a moment later":   {io.ErrUnexpectedEOF, leave(closeDone), 50 * time.Millisecond, true},
		"the stream says so":                {leave(closeDone), nil, time.Hour, true},
		"the producer gave up":              {io.ErrUnexpectedEOF, leave(closeGone), 50 * time.Millisecond, false},
		"the link broke":                    {io.ErrUnexpectedEOF, errors.New("timeout"), 50 * time.Millisecond, false},
		"only the stream broke":             {io.ErrUnexpectedEOF, nil, time.Hour, false},
		"the producer refused and was done": {&refusedError{}, leave(closeDone), 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &endingLink{over: make(chan struct{}), ended: tc.link}
				end := time.AfterFunc(tc.after, func() { close(l.over) })
				defer end.Stop()
				if got := hungUp(t.Context(), l, tc.stream); got != tc.confirmed {
					t.Errorf("confirmed: %v", got)
				}
			})
		})
	}
}
