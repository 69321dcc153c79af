package output

import (
	"bufio"
	"bytes"
	"context"
	"io"
)

// Difference finds the first difference between two lists of parts. It is empty
// if names and bytes are the same.
func Difference(ctx context.Context, a, b []Part) (string, error) {
	if len(a) != len(b) {
		return "one run has more parts than the other", nil
	}
	for i := range a {
		if a[i].Name != b[i].Name {
			return "the parts have different names", nil
		}
		same, err := equal(ctx, a[i], b[i])
		if err != nil {
			return "", err
		}
		if !same {
			return a[i].Name + " differs", nil
		}
	}
	return "", nil
}

func equal(ctx context.Context, a, b Part) (bool, error) {
	x, m, err := a.Open(ctx)
	if err != nil {
		return false, err
	}
	defer x.Close()
	y, n, err := b.Open(ctx)
	if err != nil {
		return false, err
	}
	defer y.Close()
	if m != n {
		return false, nil
	}
	const block = 256 << 10
	left, right := bufio.NewReaderSize(x, block), bufio.NewReaderSize(y, block)
	p, q := make([]byte, block), make([]byte, block)
	for {
		i, errx := io.ReadFull(left, p)
		j, erry := io.ReadFull(right, q)
		if errx != nil && errx != io.EOF && errx != io.ErrUnexpectedEOF {
			return false, errx
		}
		if erry != nil && erry != io.EOF && erry != io.ErrUnexpectedEOF {
			return false, erry
		}
		if !bytes.Equal(p[:i], q[:j]) {
			return false, nil
		}
		if errx != nil || erry != nil {
			return errx != nil && erry != nil, nil
		}
	}
}
