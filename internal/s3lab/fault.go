package s3lab

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Fault spoils the next requests that it fits.
type Fault struct {
	// Operation is the name of the S3 operation, as in Stats. Empty fits all.
	Operation string `json:"operation,omitempty"`
	// Path is a piece of the path, of bucket and key. Empty fits all.
	Path string `json:"path,omitempty"`
	// Count is how many requests are spoilt, at least 1.
	Count int `json:"count"`
	// Delay is how long the request waits before it is looked at.
	Delay time.Duration `json:"delay_ns,omitempty"`
	// Status is the answer, 503 as SlowDown and 500 as InternalError. 0 lets the request
	// go on after the delay.
	Status int `json:"status,omitempty"`
}

// Inject adds a fault to those that the running server has. It ends with the
// process, as of Restart.
func (s *Server) Inject(ctx context.Context, f Fault) error {
	if f.Count < 1 || f.Delay < 0 || f.Status != 0 && f.Status != 500 && f.Status != 503 {
		return fmt.Errorf("s3lab: inject %+v: use a count of 1 and more and status 0, 500 or 503", f)
	}
	s.mu.Lock()
	proc := s.proc
	s.mu.Unlock()
	if proc == nil {
		return ErrStopped
	}
	_, err := proc.ask(ctx, order{Fault: &f})
	return err
}

// faults are those that wait for their requests. The zero value has none.
type faults struct {
	mu   sync.Mutex
	list []Fault
}

func (f *faults) add(n Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, n)
}

// next takes the first fault that fits.
func (f *faults) next(operation, path string) (fault Fault, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.list {
		n := &f.list[i]
		if n.Operation != "" && n.Operation != operation || !strings.Contains(path, n.Path) {
			continue
		}
		fault = *n
		if n.Count--; n.Count == 0 {
			f.list = slices.Delete(f.list, i, i+1)
		}
		return fault, true
	}
	return Fault{}, false
}
