// Package output brings the parts of a finished run to where somebody wants them:
// a directory or an S3 prefix. _SUCCESS comes last, and a part stands under its
// name only when it is whole. What a failed delivery leaves is taken away again.
package output

import (
	"context"
	"io"
)

// Part is one output of a run.
type Part struct {
	Name string
	Open func(ctx context.Context) (body io.ReadCloser, size int64, err error)
}

// Target is a place for parts.
type Target interface {
	// Check tells early whether Deliver can work: the place must be empty.
	Check(ctx context.Context) error
	// Deliver stores all parts and then the marker success. It may be called once.
	Deliver(ctx context.Context, parts []Part, success string) error
	// String names the place.
	String() string
}
