package client

import (
	"context"
	"errors"
	"strings"

	"github.com/bradawl/bradawl/protocol"
)

// ErrClosed is wrapped by the errors of calls on a [Client] or [Group] that was closed.
var ErrClosed = errors.New("closed")

// ErrReplaced is wrapped by the errors of a client whose place another client with the same key and name has taken.
var ErrReplaced = errors.New("replaced by another client with the same key and name")

// ErrProtocol is wrapped by the errors of a client that the rendezvous has disconnected for a breach of the protocol.
var ErrProtocol = errors.New("the rendezvous reports a breach of the protocol")

// Error is a failure with a reason. Every error that this package returns for
// an operation on the network is an *Error or wraps one.
type Error struct {
	// Op is what was tried: "sign in", "connect", "accept", "prove", "join"...
	Op string
	// Peer is the name of the peer it was tried with; empty if there is none.
	Peer string
	// Reason is the class of the failure; the same word stands in the server's
	// log and metrics.
	Reason protocol.Reason
	// Detail says in one line what happened and what to do about it; may be empty.
	Detail string
	// Err is the underlying error; may be nil.
	Err error

	refused bool // the rendezvous answered a sign-in so
}

// again returns a copy, for one more operation that fails for the same reason.
func (e *Error) again() *Error {
	c := *e
	return &c
}

// Error returns one line without secrets.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Peer != "" {
		b.WriteString(" " + e.Peer)
	}
	if e.Reason != protocol.ReasonOK {
		b.WriteString(": " + string(e.Reason))
	}
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// ReasonOf returns the reason of the first [Error] in err's chain, or
// [protocol.ReasonOK] if there is none.
func ReasonOf(err error) protocol.Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return protocol.ReasonOK
}

// canceled makes the error of an operation that ended because ctx did.
func canceled(ctx context.Context, op, peer string) *Error {
	return &Error{Op: op, Peer: peer, Reason: protocol.ReasonCanceled, Err: context.Cause(ctx)}
}

// closedError makes the error of an operation on a closed client.
func closedError(op, peer string) *Error {
	return &Error{Op: op, Peer: peer, Reason: protocol.ReasonCanceled, Err: ErrClosed}
}

// deadError makes the error of an operation on a client whose socket has died.
func deadError(err error) *Error {
	return &Error{Reason: protocol.ReasonServerUnreachable, Detail: "the client's socket has died, sign in anew", Err: err}
}
