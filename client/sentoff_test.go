package client

import (
	"errors"
	"fmt"
	"testing"

	"github.com/quic-go/quic-go"

	"github.com/bradawl/bradawl/protocol"
)

func TestSomeCloseCodesForbidToComeBack(t *testing.T) {
	remote := func(code quic.ApplicationErrorCode, message string) error {
		return fmt.Errorf("read: %w", &quic.ApplicationError{Remote: true, ErrorCode: code, ErrorMessage: message})
	}
	for _, tc := range []struct {
		name   string
		err    error
		reason protocol.Reason // empty: the client signs in again
		is     error
	}{
		{"done", remote(0, "bye"), "", nil},
		{"protocol error", remote(1, "second sign-in"), protocol.ReasonCanceled, ErrProtocol},
		{"refused", remote(2, "unauthorized"), protocol.ReasonUnauthorized, nil},
		{"limited", remote(2, "limited"), "", nil},
		{"replaced", remote(3, ""), protocol.ReasonCanceled, ErrReplaced},
		{"draining", remote(4, ""), "", nil},
		{"slow", remote(5, ""), "", nil},
		{"our own end", &quic.ApplicationError{ErrorCode: 3}, "", nil},
		{"nothing heard", &quic.IdleTimeoutError{}, "", nil},
	} {
		e := farewell(tc.err)
		if (e == nil) != (tc.reason == "") {
			t.Errorf("%s: %v", tc.name, e)
			continue
		}
		if e != nil && (e.Reason != tc.reason || tc.is != nil && !errors.Is(e, tc.is)) {
			t.Errorf("%s: %v, want %s and %v", tc.name, e, tc.reason, tc.is)
		}
	}
}
