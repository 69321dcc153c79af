// Package pack writes archives that depend on nothing but what is in them: entries in the order given, one fixed
// time, one owner, modes 0644 and 0755. The same files make the same bytes, whoever packs them, and when.
package pack

import (
	"archive/tar"
	"archive/zip"
	"compress/flate"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// File is one entry of an archive.
type File struct {
	// Name is its path in the archive, with slashes.
	Name string
	// Content is what is in it.
	Content []byte
	// Program makes it executable for all.
	Program bool
}

func (f File) mode() int64 {
	if f.Program {
		return 0o755
	}
	return 0o644
}

// epoch is every entry's time: the earliest that zip can express.
func epoch() time.Time { return time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC) }

// TarGz writes a tar archive compressed with gzip.
func TarGz(w io.Writer, files []File) error {
	zw, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	tw := tar.NewWriter(zw)
	for _, f := range files {
		h := tar.Header{Typeflag: tar.TypeReg, Name: f.Name, Mode: f.mode(), Size: int64(len(f.Content)), ModTime: epoch(), Format: tar.FormatUSTAR}
		if err := tw.WriteHeader(&h); err != nil {
			return fmt.Errorf("pack %s: %w", f.Name, err)
		}
		if _, err := tw.Write(f.Content); err != nil {
			return fmt.Errorf("pack %s: %w", f.Name, err)
		}
	}
	if err := tw.Close(); err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	if err := zw.Close(); err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	return nil
}

// Zip writes a zip archive with Unix modes, as Lambda takes it.
func Zip(w io.Writer, files []File) error {
	zw := zip.NewWriter(w)
	zw.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	for _, f := range files {
		h := zip.FileHeader{Name: f.Name, Method: zip.Deflate}
		h.SetMode(fs.FileMode(f.mode()))
		h.Modified = epoch()
		e, err := zw.CreateHeader(&h)
		if err != nil {
			return fmt.Errorf("pack %s: %w", f.Name, err)
		}
		if _, err := e.Write(f.Content); err != nil {
			return fmt.Errorf("pack %s: %w", f.Name, err)
		}
	}
	if err := zw.Close(); err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	return nil
}

// Sum is the line for a file in SHA256SUMS, as sha256sum writes and checks it.
func Sum(name string, content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:]) + "  " + name + "\n"
}
