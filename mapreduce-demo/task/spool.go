package task

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// spoolMemory is how much of an output is kept in memory before it goes to a file.
const spoolMemory = 8 << 20

// spool takes an output of any length and gives it back from its start, which is
// what a single signed PutObject needs. The zero value is ready. Close removes it.
type spool struct {
	memory bytes.Buffer
	file   *os.File
	size   int64
	limit  int // of the memory; 0: spoolMemory
}

// Write adds to the output.
func (s *spool) Write(p []byte) (int, error) {
	limit := s.limit
	if limit == 0 {
		limit = spoolMemory
	}
	if s.file == nil && s.memory.Len()+len(p) > limit {
		f, err := os.CreateTemp("", "output-*")
		if err != nil {
			return 0, fmt.Errorf("spool the output: %w", err)
		}
		s.file = f
		// Nobody else needs its name, and nothing is left behind by a kill.
		if err := os.Remove(f.Name()); err != nil {
			return 0, fmt.Errorf("spool the output: %w", err)
		}
		if _, err := f.Write(s.memory.Bytes()); err != nil {
			return 0, fmt.Errorf("spool the output: %w", err)
		}
		s.memory = bytes.Buffer{}
	}
	s.size += int64(len(p))
	if s.file == nil {
		return s.memory.Write(p)
	}
	n, err := s.file.Write(p)
	if err != nil {
		err = fmt.Errorf("spool the output: %w", err)
	}
	return n, err
}

// reader gives the whole output from its start.
func (s *spool) reader() (io.ReadSeeker, error) {
	if s.file == nil {
		return bytes.NewReader(s.memory.Bytes()), nil
	}
	_, err := s.file.Seek(0, io.SeekStart)
	return s.file, err
}

// Close gives memory and file back.
func (s *spool) Close() error {
	s.memory = bytes.Buffer{}
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
