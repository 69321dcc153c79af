package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPricesAreTakenFromWhereTheFlagsSay(t *testing.T) {
	published, err := os.ReadFile("../../lambdaclient/price/prices.json")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	own := write("own.json", strings.ReplaceAll(string(published), `"us-east-1"`, `"home"`))
	for _, tc := range []struct{ name, file, region, says string }{
		{name: "published", region: "us-east-1"},
		{name: "own", file: own, region: "home"},
		{name: "region that is not there", region: "home", says: `"home"`},
		{name: "own without the region", file: own, region: "us-east-1", says: "us-east-1"},
		{name: "no file", file: filepath.Join(dir, "none"), region: "home", says: "none"},
		{name: "no prices", file: write("bad.json", "{}"), region: "home", says: "bad.json"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := prices(tc.file, tc.region)
			switch {
			case tc.says == "" && (err != nil || r.Region != tc.region || r.LambdaGBSecond == 0):
				t.Errorf("%+v, %v", r, err)
			case tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)):
				t.Errorf("error %v does not say %q", err, tc.says)
			}
		})
	}
}
