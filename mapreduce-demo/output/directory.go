package output

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Directory is a Target on the local file system. It is made if it does not
// exist, and refused if it is not empty.
type Directory string

// String is the directory's path.
func (d Directory) String() string { return string(d) }

// Check looks whether files can be made in the directory, and makes it for that.
func (d Directory) Check(context.Context) error {
	entries, err := os.ReadDir(string(d))
	switch {
	case err == nil && len(entries) > 0:
		return fmt.Errorf("output %s is not empty; name a new directory", d)
	case errors.Is(err, fs.ErrNotExist):
		// Only try: an empty directory is not to stay behind if the job fails.
		made, err := makeAll(string(d))
		defer removeAll(made)
		if err != nil {
			return d.fail(err)
		}
		return d.try()
	case err != nil:
		return d.fail(err)
	}
	return d.try()
}

// try makes a file and removes it.
func (d Directory) try() error {
	f, err := os.CreateTemp(string(d), ".try-*")
	if err != nil {
		return d.fail(err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

func (d Directory) fail(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return fmt.Errorf("write output %s: %w", d, err)
}

// Deliver stores the parts under temporary names, renames them and adds the marker.
func (d Directory) Deliver(ctx context.Context, parts []Part, success string) (err error) {
	if err := d.Check(ctx); err != nil {
		return err
	}
	made, err := makeAll(string(d))
	var files []string
	defer func() {
		if err != nil {
			for _, name := range files {
				_ = os.Remove(name)
			}
			removeAll(made)
		}
	}()
	if err != nil {
		return d.fail(err)
	}
	names := make([]string, len(parts))
	for i, part := range parts {
		names[i], err = d.store(ctx, part)
		if names[i] != "" {
			files = append(files, names[i])
		}
		if err != nil {
			return err
		}
	}
	for i, part := range parts {
		final := filepath.Join(string(d), part.Name)
		if err := os.Rename(names[i], final); err != nil {
			return d.fail(err)
		}
		files = append(files, final)
	}
	marker := filepath.Join(string(d), success)
	files = append(files, marker)
	if err := os.WriteFile(marker, nil, 0o644); err != nil {
		return d.fail(err)
	}
	return d.sync()
}

// store writes one part under a temporary name.
func (d Directory) store(ctx context.Context, part Part) (name string, err error) {
	body, size, err := part.Open(ctx)
	if err != nil {
		return "", err
	}
	defer body.Close()
	f, err := os.CreateTemp(string(d), "."+part.Name+"-*")
	if err != nil {
		return "", d.fail(err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = d.fail(cerr)
		}
	}()
	n, err := io.Copy(f, body)
	if err != nil {
		return f.Name(), fmt.Errorf("write output %s: %s: %w", d, part.Name, err)
	}
	if n != size {
		return f.Name(), fmt.Errorf("write output %s: %s has %d bytes instead of %d", d, part.Name, n, size)
	}
	if err := f.Chmod(0o644); err != nil {
		return f.Name(), d.fail(err)
	}
	if err := f.Sync(); err != nil {
		return f.Name(), d.fail(err)
	}
	return f.Name(), nil
}

// sync makes the names durable.
func (d Directory) sync() error {
	f, err := os.Open(string(d))
	if err != nil {
		return d.fail(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return d.fail(err)
	}
	return nil
}

// makeAll is os.MkdirAll that tells which directories it made, outermost first.
func makeAll(path string) (made []string, err error) {
	var missing []string
	for p := filepath.Clean(path); ; p = filepath.Dir(p) {
		_, err := os.Lstat(p)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		missing = append([]string{p}, missing...)
		if filepath.Dir(p) == p {
			break
		}
	}
	for _, p := range missing {
		if err := os.Mkdir(p, 0o755); err != nil {
			return made, err
		}
		made = append(made, p)
	}
	return made, nil
}

// removeAll takes made directories away, those that are empty.
func removeAll(made []string) {
	for i := len(made) - 1; i >= 0; i-- {
		_ = os.Remove(made[i])
	}
}
