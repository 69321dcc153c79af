package input

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// File is one input file.
type File struct {
	// Name is what errors call it.
	Name string
	// Size in bytes, as listed. It only balances the splits: what Open yields counts.
	Size int64
	// Open begins to read it.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Local lists a file, or all regular files below a directory, sorted by name.
// Symbolic links below it are not followed. What cannot be listed is an error.
func Local(path string) ([]File, error) {
	root, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("read input %s: %w", path, plain(err))
	}
	info, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("read input %s: %w", path, plain(err))
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read input %s: it is neither a file nor a directory", path)
	}
	var files []File
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("read input %s: %w", name, plain(err))
		}
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("read input %s: %w", name, plain(err))
		}
		files = append(files, File{
			Name: name,
			Size: info.Size(),
			Open: func(context.Context) (io.ReadCloser, error) { return os.Open(name) },
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("read input %s: there is no file in it", path)
	}
	return files, nil
}

// plain drops the operation and path that os errors repeat.
func plain(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
