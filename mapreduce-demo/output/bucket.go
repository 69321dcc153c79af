package output

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/bradawl/bradawl/mapreduce-demo/store"
)

// Bucket is a Target on S3. Every object is written with If-None-Match: *.
type Bucket struct {
	Store  *store.Store
	Prefix string // without a slash at its end; may be empty
}

// String is the place as s3://bucket/prefix.
func (b Bucket) String() string { return "s3://" + b.Store.Bucket() + "/" + b.Prefix }

func (b Bucket) key(name string) string {
	if b.Prefix == "" {
		return name
	}
	return strings.TrimSuffix(b.Prefix, "/") + "/" + name
}

// Check looks whether the prefix is free.
func (b Bucket) Check(ctx context.Context) error {
	empty, err := b.Store.Empty(ctx, b.key(""))
	if err != nil {
		return err
	}
	if !empty {
		return fmt.Errorf("output %s is not empty; name a new prefix", b)
	}
	return nil
}

// Deliver copies the parts and adds the marker.
func (b Bucket) Deliver(ctx context.Context, parts []Part, success string) (err error) {
	var written []string // in the order in which they are to go
	defer func() {
		if err != nil {
			// Also after an interruption nothing is to look whole: the marker goes first.
			// Without it gone the parts stay, as they are then all there.
			ctx := context.WithoutCancel(ctx)
			for _, key := range written {
				if b.Store.Delete(ctx, key) != nil && key == b.key(success) {
					return
				}
			}
		}
	}()
	for _, part := range parts {
		fresh, err := b.copy(ctx, part)
		if fresh || err != nil {
			// After an error nobody knows whether it is there.
			written = append(written, b.key(part.Name))
		}
		if err == nil && !fresh {
			err = fmt.Errorf("write output %s: somebody else has written %s meanwhile", b, part.Name)
		}
		if err != nil {
			return err
		}
	}
	fresh, err := b.Store.PutOwn(ctx, b.key(success), strings.NewReader(""), 0)
	if fresh || err != nil {
		written = slices.Insert(written, 0, b.key(success))
	}
	if err == nil && !fresh {
		err = fmt.Errorf("write output %s: somebody else has written there meanwhile", b)
	}
	return err
}

// copy stores one part by way of a file, since S3 wants to know length and checksum first.
func (b Bucket) copy(ctx context.Context, part Part) (fresh bool, err error) {
	body, size, err := part.Open(ctx)
	if err != nil {
		return false, err
	}
	defer body.Close()
	f, err := os.CreateTemp("", "part-*")
	if err != nil {
		return false, fmt.Errorf("write output %s: %w", b, err)
	}
	defer f.Close()
	defer os.Remove(f.Name())
	n, err := io.Copy(f, body)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes instead of %d", n, size)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return false, fmt.Errorf("write output %s: %s: %w", b, part.Name, err)
	}
	return b.Store.PutOwn(ctx, b.key(part.Name), f, size)
}
