package cost

import (
	"math"
	"testing"
)

func TestBill(t *testing.T) {
	prices := USEast1()
	for _, test := range []struct {
		name          string
		usage         Usage
		free, charged float64
	}{
		{"nothing", Usage{}, 0, 0},
		// 1,000 GB-s and a million requests.
		{"lambda", Usage{GBSeconds: 1000, Invocations: 1e6}, 0.0166667 + 0.20, 0.0166667 + 0.20},
		// A shuffle of 100 by 100 with one object per partition: $0.05 and $0.004.
		{"s3", Usage{Puts: 10_000, Gets: 10_000}, 0.054, 0.054},
		{"transfer", Usage{DirectBytes: 1e9}, 0, 0.02},
		{"rendezvous", Usage{Hours: 10}, 0.134, 0.134},
	} {
		b := prices.Bill(test.usage)
		if math.Abs(b.Free()-test.free) > 1e-9 || math.Abs(b.Charged()-test.charged) > 1e-9 {
			t.Errorf("%s: %v free and %v charged, want %v and %v", test.name, b.Free(), b.Charged(), test.free, test.charged)
		}
	}
}
