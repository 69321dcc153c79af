// Package cost says what a run would have cost on AWS. Prices are data, with the
// place and the day they are from; whoever knows better passes others.
package cost

// Prices are in US dollars.
type Prices struct {
	Region string `json:"region"`
	Date   string `json:"date"` // the day they were read, as YYYY-MM-DD
	// LambdaGBSecond is for one GiB of memory for one second on x86, LambdaRequest for one invocation.
	LambdaGBSecond float64 `json:"lambda_gb_second"`
	LambdaRequest  float64 `json:"lambda_request"`
	// S3Put is for one PUT or LIST, S3Get for one GET or HEAD, of S3 Standard.
	S3Put float64 `json:"s3_put"`
	S3Get float64 `json:"s3_get"`
	// TransferGB is for 10^9 bytes over public addresses within the region, for each
	// of the two directions. AWS does not say whether it is charged between functions.
	TransferGB float64 `json:"transfer_gb"`
	// RendezvousHour is for the smallest server that runs the rendezvous, its address included.
	RendezvousHour float64 `json:"rendezvous_hour"`
}

// USEast1 are the public on-demand prices of us-east-1.
func USEast1() Prices {
	return Prices{
		Region: "us-east-1", Date: "2026-11-23",
		LambdaGBSecond: 0.0000166667, LambdaRequest: 0.20 / 1e6,
		S3Put: 0.005 / 1e3, S3Get: 0.0004 / 1e3,
		TransferGB:     0.01,
		RendezvousHour: 0.0084 + 0.005, // t4g.micro and a public IPv4 address
	}
}

// Usage is what a run used.
type Usage struct {
	GBSeconds   float64 `json:"gb_seconds"`
	Invocations int64   `json:"invocations"`
	Puts        int64   `json:"puts"`         // and LISTs
	Gets        int64   `json:"gets"`         // and HEADs
	DirectBytes int64   `json:"direct_bytes"` // between functions
	Hours       float64 `json:"hours"`        // of the rendezvous
}

// Bill is in US dollars.
type Bill struct {
	Lambda     float64 `json:"lambda"`
	S3         float64 `json:"s3"`
	Rendezvous float64 `json:"rendezvous"`
	// Transfer is due if transfer between functions is charged, in both directions.
	Transfer float64 `json:"transfer"`
}

// Bill works out what the usage costs.
func (p Prices) Bill(u Usage) Bill {
	return Bill{
		Lambda:     u.GBSeconds*p.LambdaGBSecond + float64(u.Invocations)*p.LambdaRequest,
		S3:         float64(u.Puts)*p.S3Put + float64(u.Gets)*p.S3Get,
		Rendezvous: u.Hours * p.RendezvousHour,
		Transfer:   2 * float64(u.DirectBytes) / 1e9 * p.TransferGB,
	}
}

// Free is the sum if transfer between functions is not charged.
func (b Bill) Free() float64 { return b.Lambda + b.S3 + b.Rendezvous }

// Charged is the sum if it is.
func (b Bill) Charged() float64 { return b.Free() + b.Transfer }
