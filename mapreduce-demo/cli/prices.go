package cli

import (
	"fmt"
	"os"

	"github.com/bradawl/bradawl/lambdaclient/price"
)

// prices takes the rates of a region from a file, or from the published table.
func prices(file, region string) (price.Rates, error) {
	table, err := price.Published()
	if file != "" {
		f, oerr := os.Open(file)
		if oerr != nil {
			return price.Rates{}, fmt.Errorf("read the prices: %w", oerr)
		}
		defer f.Close()
		if table, err = price.Read(f); err != nil {
			return price.Rates{}, fmt.Errorf("%s: %w", file, err)
		}
	}
	if err != nil {
		return price.Rates{}, err
	}
	return table.Rates(price.Choice{Region: region})
}
