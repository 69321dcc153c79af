package store

import (
	"errors"
	"strings"

	"github.com/aws/smithy-go"
)

// Plain shortens an SDK error to what S3 said, in one line. The cause stays
// reachable by errors.As and errors.Is.
func Plain(err error) error {
	var own *plainError
	if errors.As(err, &own) {
		return err
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		text := api.ErrorCode()
		switch text {
		case "NoSuchBucket":
			text = "the bucket does not exist"
		case "AccessDenied", "Forbidden":
			text = "access is denied"
		default:
			if m := api.ErrorMessage(); m != "" {
				text += ": " + m
			}
		}
		return &plainError{oneLine(text), err}
	}
	// An operation that got no answer: only the innermost cause says something.
	var op *smithy.OperationError
	if errors.As(err, &op) {
		return &plainError{oneLine(op.Err.Error()), err}
	}
	return err
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

type plainError struct {
	text  string
	cause error
}

func (e *plainError) Error() string { return e.text }
func (e *plainError) Unwrap() error { return e.cause }
