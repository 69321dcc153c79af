package cost

import (
	"math"
	"testing"

	"github.com/bradawl/bradawl/lambdaclient/price"
)

func rates(t *testing.T, c price.Choice) price.Rates {
	t.Helper()
	table, err := price.Published()
	if err != nil {
		t.Fatal(err)
	}
	r, err := table.Rates(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestBill(t *testing.T) {
	standard, express := rates(t, price.Choice{}), rates(t, price.Choice{Class: price.ExpressOneZone})
	for _, test := range []struct {
		name          string
		rates         price.Rates
		usage         Usage
		free, charged float64
	}{
		{"nothing", standard, Usage{}, 0, 0},
		// 1,000 GB-s and a million requests.
		{"lambda", standard, Usage{GBSeconds: 1000, Invocations: 1e6}, 0.0166667 + 0.20, 0.0166667 + 0.20},
		// A shuffle of 100 by 100 with one object per partition: $0.05 and $0.004.
		{"s3", standard, Usage{Puts: 10_000, Gets: 10_000}, 0.054, 0.054},
		{"bytes are free in Standard", standard, Usage{Uploaded: 1 << 30, Retrieved: 1 << 30}, 0, 0},
		{"but not in Express One Zone", express, Usage{Uploaded: 1 << 30, Retrieved: 1 << 30}, 0.0038, 0.0038},
		{"transfer", standard, Usage{DirectBytes: 1e9}, 0, 0.02},
		{"rendezvous", standard, Usage{Hours: 10}, 0.134, 0.134},
	} {
		b := Of(test.rates, test.usage)
		if math.Abs(b.Free()-test.free) > 1e-9 || math.Abs(b.Charged()-test.charged) > 1e-9 {
			t.Errorf("%s: %v free and %v charged, want %v and %v", test.name, b.Free(), b.Charged(), test.free, test.charged)
		}
	}
}
