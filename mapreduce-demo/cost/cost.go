// Package cost says what a run would have cost on AWS, by the rates of package
// price.
package cost

import "github.com/bradawl/bradawl/lambdaclient/price"

// Usage is what a run used.
type Usage struct {
	GBSeconds   float64 `json:"gb_seconds"`
	Invocations int64   `json:"invocations"`
	Puts        int64   `json:"puts"`         // and LISTs
	Gets        int64   `json:"gets"`         // and HEADs
	Uploaded    int64   `json:"uploaded"`     // bytes written to S3
	Retrieved   int64   `json:"retrieved"`    // bytes read from S3
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

// Of gives the bill of a usage.
func Of(p price.Rates, u Usage) Bill {
	return Bill{
		Lambda:     u.GBSeconds*p.LambdaGBSecond + float64(u.Invocations)*p.LambdaRequest,
		S3:         p.Store(u.Puts, u.Gets, u.Uploaded, u.Retrieved),
		Rendezvous: u.Hours * p.RendezvousHour,
		Transfer:   p.Transfer(u.DirectBytes),
	}
}

// Free is the sum if transfer between functions is not charged.
func (b Bill) Free() float64 { return b.Lambda + b.S3 + b.Rendezvous }

// Charged is the sum if it is.
func (b Bill) Charged() float64 { return b.Free() + b.Transfer }
