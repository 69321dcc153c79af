package s3lab

import "maps"

// Operation counts one S3 operation. The zero value is empty.
type Operation struct {
	// Requests is the number of requests answered, refused ones included.
	Requests uint64 `json:"requests"`
	// BytesIn is the number of bytes of request bodies that the operation
	// read. Headers are not counted, nor is the body of a request that was
	// refused before its body was looked at.
	BytesIn uint64 `json:"bytes_in"`
	// BytesOut is the number of bytes of response bodies sent, error bodies
	// included. Headers are not counted.
	BytesOut uint64 `json:"bytes_out"`
	// Errors is the number of answers by HTTP status, for statuses of 300
	// and above. It is nil where there were none.
	Errors map[int]uint64 `json:"errors,omitempty"`
}

// Failed returns the number of requests answered with a status of 300 or above.
func (o Operation) Failed() uint64 {
	var n uint64
	for _, c := range o.Errors {
		n += c
	}
	return n
}

// Stats are the counts of a server process by the name of the S3 operation as
// Amazon's reference gives it, such as PutObject or ListObjectsV2. Operations
// that the lab does not tell apart are counted as Other.
type Stats struct {
	Operations map[string]Operation `json:"operations"`
	// Model says whether the server's model was on, and with which figures.
	Model string `json:"model"`
}

// Total returns the sum over all operations.
func (s Stats) Total() Operation {
	var t Operation
	for _, o := range s.Operations {
		t = combine(t, o, func(a, b uint64) uint64 { return a + b })
	}
	return t
}

// Sub returns what was counted since an earlier reading of the same process.
// Operations without a request since then are left out.
func (s Stats) Sub(earlier Stats) Stats {
	out := Stats{Model: s.Model, Operations: make(map[string]Operation)}
	for name, o := range s.Operations {
		d := combine(o, earlier.Operations[name], func(a, b uint64) uint64 {
			if b > a {
				return 0
			}
			return a - b
		})
		if d.Requests != 0 || d.BytesIn != 0 || d.BytesOut != 0 {
			out.Operations[name] = d
		}
	}
	return out
}

func combine(a, b Operation, f func(a, b uint64) uint64) Operation {
	out := Operation{
		Requests: f(a.Requests, b.Requests),
		BytesIn:  f(a.BytesIn, b.BytesIn),
		BytesOut: f(a.BytesOut, b.BytesOut),
	}
	both := maps.Clone(b.Errors)
	if both == nil {
		both = make(map[int]uint64, len(a.Errors))
	}
	maps.Copy(both, a.Errors)
	for status := range both {
		if n := f(a.Errors[status], b.Errors[status]); n > 0 {
			if out.Errors == nil {
				out.Errors = make(map[int]uint64)
			}
			out.Errors[status] = n
		}
	}
	return out
}
