package price

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func rates(t testing.TB, c Choice) Rates {
	t.Helper()
	table, err := Published()
	if err != nil {
		t.Fatal(err)
	}
	r, err := table.Rates(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPublishedTableHasEveryChoice(t *testing.T) {
	table, err := Published()
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Regions()) == 0 {
		t.Fatal("it has no regions")
	}
	for _, region := range table.Regions() {
		for _, arch := range []Architecture{X86, ARM} {
			for _, class := range []Class{Standard, ExpressOneZone} {
				r, err := table.Rates(Choice{Region: region, Architecture: arch, Class: class})
				if err != nil {
					t.Error(err)
				}
				if r.Date == "" || r.LambdaGBSecond <= 0 || r.S3Put <= r.S3Get || r.S3Get <= 0 || r.RendezvousHour <= 0 {
					t.Errorf("%+v", r)
				}
			}
		}
	}
}

func TestRatesComeToWhatTheCalculationByHandSays(t *testing.T) {
	express := rates(t, Choice{Class: ExpressOneZone})
	for _, tc := range []struct {
		name      string
		got, want float64
	}{
		{"a GB-s on x86", rates(t, Choice{}).Compute(1024, time.Second), 0.0000166667},
		{"and on ARM, half the memory, twice the time", rates(t, Choice{Architecture: ARM}).Compute(512, 2*time.Second), 0.0000133334},
		// A shuffle of 100 by 100 with one object per partition: $0.05 and $0.004.
		{"10,000 PUTs and GETs", rates(t, Choice{}).Store(10_000, 10_000, 1<<30, 1<<30), 0.054},
		// The example of S3's FAQ: 10^6 writes and 9*10^6 reads of 10 KiB.
		{"Express One Zone", express.Store(1e6, 9e6, 1e6*10<<10, 9e6*10<<10), 1.13 + 0.27 + 0.0305 + 0.0515},
		{"a GB to a peer, charged", rates(t, Choice{TransferCharged: true}).Direct(1e9), 0.02},
		{"and not charged", rates(t, Choice{}).Direct(1e9), 0},
		{"but known", rates(t, Choice{}).Transfer(1e9), 0.02},
	} {
		if math.Abs(tc.got-tc.want) > 1e-4*max(tc.want, 1e-9) {
			t.Errorf("%s: %v, want %v", tc.name, tc.got, tc.want)
		}
	}
}

func TestTheOldestFigureDatesTheRates(t *testing.T) {
	old := strings.Replace(string(published), "2026-11-23", "2020-01-02", 1) // of x86's GB-s
	table, err := Read(strings.NewReader(old))
	if err != nil {
		t.Fatal(err)
	}
	for arch, want := range map[Architecture]string{X86: "2020-01-02", ARM: "2026-11-23"} {
		r, err := table.Rates(Choice{Architecture: arch})
		if err != nil || r.Date != want {
			t.Errorf("%s: date %s, error %v", arch, r.Date, err)
		}
	}
}

func TestBadTablesAreRefused(t *testing.T) {
	const good = `{"region":"r","item":"transfer_gb","usd":1,"date":"2026-01-02","source":"s"}`
	for name, table := range map[string]string{
		"nothing":        ``,
		"no JSON":        `prices`,
		"no figures":     `{"version":1}`,
		"version":        `{"version":2,"figures":[` + good + `]}`,
		"two values":     `{"version":1,"figures":[]} {}`,
		"unknown field":  `{"version":1,"figures":[],"more":1}`,
		"unknown item":   strings.Replace(string(published), "s3_put", "s3_putt", 1),
		"negative":       strings.Replace(string(published), `"usd": 0.01,`, `"usd": -0.01,`, 1),
		"not a price":    strings.Replace(string(published), `"usd": 0.01,`, `"usd": 1e9,`, 1),
		"no date":        strings.Replace(string(published), `"2026-11-23"`, `""`, 1),
		"no such date":   strings.Replace(string(published), `"2026-11-23"`, `"2026-02-30"`, 1),
		"no source":      strings.Replace(string(published), `"https://aws.amazon.com/vpc/pricing/"`, `""`, 1),
		"no region":      strings.Replace(string(published), `"us-east-1"`, `""`, 1),
		"architecture":   strings.Replace(string(published), `"arm64"`, `"mips"`, 1),
		"class":          strings.Replace(string(published), `"EXPRESS_ONEZONE"`, `"COLD"`, 1),
		"class for none": strings.Replace(string(published), `"item": "transfer_gb"`, `"item": "transfer_gb", "class": "STANDARD"`, 1),
		"twice":          `{"version":1,"figures":[` + good + `,` + good + `]}`,
		"incomplete":     `{"version":1,"figures":[` + good + `]}`,
		"too long":       `{"version":1,"figures":[` + strings.Repeat(" ", maxTable) + `]}`,
	} {
		if table == string(published) {
			t.Fatalf("%s: the case changes nothing", name)
		}
		if _, err := Read(strings.NewReader(table)); !errors.Is(err, ErrTable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAChoiceThatIsNotThereIsNamed(t *testing.T) {
	table, err := Published()
	if err != nil {
		t.Fatal(err)
	}
	_, err = table.Rates(Choice{Region: "mars-north-1"})
	if !errors.Is(err, ErrTable) || !strings.Contains(err.Error(), "mars-north-1") {
		t.Error(err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(published)
	f.Add([]byte(`{"version":1,"figures":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := Read(strings.NewReader(string(b)))
		if (table == nil) && err == nil {
			t.Fatal("neither table nor error")
		}
		if err == nil && len(table.Regions()) == 0 {
			t.Fatal("a table without regions passes")
		}
	})
}
