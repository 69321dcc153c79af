package report

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/bradawl/bradawl/lambdaclient/price"
)

// Document is the whole result for machines.
type Document struct {
	Input   Input  `json:"input"`
	Network string `json:"network"`
	Why     string `json:"network_why,omitempty"` // why it is not the other one
	NAT     string `json:"nat,omitempty"`
	// S3Model says whether S3's latencies and limits were imitated, and by which figures.
	S3Model string      `json:"s3_model"`
	Memory  int         `json:"memory_mb"`
	Prices  price.Rates `json:"prices"`
	Runs    []Summary   `json:"runs"`
	// Equal tells whether the outputs of all runs are the same bytes; nil for a single run.
	Equal  *bool  `json:"equal,omitempty"`
	Output string `json:"output"`
}

// Input is what was counted.
type Input struct {
	Path    string `json:"path"`
	Files   int    `json:"files"`
	Bytes   int64  `json:"bytes"`
	Objects int    `json:"objects"` // after packing
	PackMS  MS     `json:"pack_ms"`
}

// Save writes the document to a file that is complete or not there.
func (d *Document) Save(file string) error {
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(text, '\n'))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Chmod(f.Name(), 0o644)
	}
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}
