package price

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestTheCostsPageSaysWhatTheTableSays computes each figure of docs/costs.md anew.
func TestTheCostsPageSaysWhatTheTableSays(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../docs/costs.md")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.Join(strings.Fields(string(b)), " ")
	x86, arm := rates(t, Choice{}), rates(t, Choice{Architecture: ARM})
	express := rates(t, Choice{Class: ExpressOneZone})
	requests := x86.Store(200, 10_000, 0, 0)
	pairs := x86.Store(10_000, 10_000, 0, 0)
	second := float64(1769) / 1024 * x86.LambdaGBSecond
	month := 730 * x86.RendezvousHour
	row := func(what string, bytes int64) string {
		return fmt.Sprintf("| %s | %.4f | 0 | %.4f |", what, requests, x86.Transfer(bytes))
	}
	for _, want := range []string{
		fmt.Sprintf("| Lambda, x86 | GB-second | %.10f |", x86.LambdaGBSecond),
		fmt.Sprintf("| Lambda, arm64 | GB-second | %.10f |", arm.LambdaGBSecond),
		fmt.Sprintf("| million invocations | %.2f |", 1e6*x86.LambdaRequest),
		fmt.Sprintf("| S3 Standard, PUT or LIST | 1,000 | %.3f |", 1000*x86.S3Put),
		fmt.Sprintf("| S3 Standard, GET | 1,000 | %.4f |", 1000*x86.S3Get),
		fmt.Sprintf("| S3 Express One Zone, PUT | 1,000 | %.5f |", 1000*express.S3Put),
		fmt.Sprintf("| S3 Express One Zone, GET | 1,000 | %.5f |", 1000*express.S3Get),
		fmt.Sprintf("| S3 Express One Zone, written | GB | %.4f |", express.S3UploadGB),
		fmt.Sprintf("| S3 Express One Zone, read | GB | %.4f |", express.S3RetrieveGB),
		fmt.Sprintf("| GB, out and in | %.2f |", x86.Transfer(1e9)),
		fmt.Sprintf("| hour | %.4f |", x86.RendezvousHour),
		fmt.Sprintf("| month of 730 hours | %.2f |", month),
		fmt.Sprintf("$%.2f for each direction", x86.TransferGB),
		fmt.Sprintf("worth %.0f KB of charged bytes", x86.S3Get/x86.Transfer(1e3)),
		fmt.Sprintf("a PUT of a producer, worth %.0f KB", x86.S3Put/x86.Transfer(1e3)),
		row("100 MB in all", 1e8), row("1 GB", 1e9), row("100 GB", 1e11),
		fmt.Sprintf("it is 10,000 PUTs and 10,000 GETs, $%.4f: then direct links are cheaper up to %.1f GB", pairs, pairs/x86.Transfer(1e9)),
		fmt.Sprintf("$%.7f for each second, the price of %.1f PUTs", second, second/x86.S3Put),
		fmt.Sprintf("longer than %.0f ms", 1000*x86.S3Put/second),
		fmt.Sprintf("$%.2f a month is %.2f million PUTs", month, month/x86.S3Put/1e6),
		fmt.Sprintf("are $%.6f for each function and step", 0.07*second),
	} {
		if !strings.Contains(page, want) {
			t.Errorf("docs/costs.md lacks %q", want)
		}
	}
}
