package price

import (
	"fmt"
	"time"
)

// Choice picks rates from a table.
type Choice struct {
	// Region is AWS's name, such as "us-east-1", which an empty one means.
	Region string `json:"region"`
	// Architecture is that of the functions. Empty means X86.
	Architecture Architecture `json:"architecture"`
	// Class is the storage class of what is exchanged. Empty means Standard.
	Class Class `json:"class"`
	// TransferCharged says that bytes between functions over public addresses are
	// charged, in both directions. AWS does not say whether they are.
	TransferCharged bool `json:"transfer_charged"`
}

// Rates are the prices of one choice, in US dollars. The zero value charges nothing.
type Rates struct {
	Choice
	// Date is the day of the oldest figure among them, as YYYY-MM-DD.
	Date string `json:"date"`
	// LambdaGBSecond is for 2^30 bytes of memory for a second, LambdaRequest for an
	// invocation.
	LambdaGBSecond float64 `json:"lambda_gb_second"`
	LambdaRequest  float64 `json:"lambda_request"`
	// S3Put is for one PUT or LIST, S3Get for one GET or HEAD; S3UploadGB and
	// S3RetrieveGB are for 2^30 bytes of objects' bodies on top.
	S3Put        float64 `json:"s3_put"`
	S3Get        float64 `json:"s3_get"`
	S3UploadGB   float64 `json:"s3_upload_gb"`
	S3RetrieveGB float64 `json:"s3_retrieve_gb"`
	// TransferGB is for 10^9 bytes between functions, for each of the two
	// directions, whether or not the choice charges it.
	TransferGB float64 `json:"transfer_gb"`
	// RendezvousHour is for the smallest server that runs the rendezvous, its
	// address included.
	RendezvousHour float64 `json:"rendezvous_hour"`
}

// Rates gives the rates of a choice. The error wraps [ErrTable] and names the
// figure that the table lacks.
func (t *Table) Rates(c Choice) (Rates, error) {
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	if c.Architecture == "" {
		c.Architecture = X86
	}
	if c.Class == "" {
		c.Class = Standard
	}
	r := Rates{Choice: c}
	var server, address float64
	for _, want := range []struct {
		key  key
		into *float64
	}{
		{key{item: LambdaGBSecond, arch: c.Architecture}, &r.LambdaGBSecond},
		{key{item: LambdaRequest, arch: c.Architecture}, &r.LambdaRequest},
		{key{item: S3Put, class: c.Class}, &r.S3Put},
		{key{item: S3Get, class: c.Class}, &r.S3Get},
		{key{item: S3UploadGB, class: c.Class}, &r.S3UploadGB},
		{key{item: S3RetrieveGB, class: c.Class}, &r.S3RetrieveGB},
		{key{item: TransferGB}, &r.TransferGB},
		{key{item: ServerHour}, &server},
		{key{item: AddressHour}, &address},
	} {
		k := want.key
		k.region = c.Region
		f, ok := t.figures[k]
		if !ok {
			return Rates{}, fmt.Errorf("%w: there is no %s for region %q, architecture %q, class %q: add it to the table",
				ErrTable, k.item, c.Region, c.Architecture, c.Class)
		}
		*want.into = f.USD
		if r.Date == "" || f.Date < r.Date {
			r.Date = f.Date
		}
	}
	r.RendezvousHour = server + address
	return r, nil
}

// Compute is what a function of so many MB (2^20 bytes) costs for so long.
func (r Rates) Compute(memoryMB int, d time.Duration) float64 {
	return float64(memoryMB) / 1024 * d.Seconds() * r.LambdaGBSecond
}

// Store is what writing and reading objects costs, by requests and bytes.
func (r Rates) Store(puts, gets, uploaded, retrieved int64) float64 {
	return float64(puts)*r.S3Put + float64(gets)*r.S3Get +
		float64(uploaded)/(1<<30)*r.S3UploadGB + float64(retrieved)/(1<<30)*r.S3RetrieveGB
}

// Transfer is what bytes from one function to another cost if that is charged:
// they leave the one and enter the other. It does not look at TransferCharged.
func (r Rates) Transfer(bytes int64) float64 { return 2 * float64(bytes) / 1e9 * r.TransferGB }

// Direct is Transfer if the choice charges it, else 0.
func (r Rates) Direct(bytes int64) float64 {
	if !r.TransferCharged {
		return 0
	}
	return r.Transfer(bytes)
}
