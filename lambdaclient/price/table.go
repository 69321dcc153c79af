package price

import (
	"bytes"
	_ "embed" // for prices.json
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

//go:embed prices.json
var published []byte

const (
	tableVersion = 1
	// maxTable bounds a table in bytes, some thousand figures.
	maxTable = 1 << 20
	// maxUSD bounds a figure: nothing here costs more for one unit.
	maxUSD = 1000
)

// Item is what a figure is the price of. All are in US dollars for one unit.
type Item string

// The items of a table.
const (
	// LambdaGBSecond is 2^30 bytes of a function's memory for one second.
	LambdaGBSecond Item = "lambda_gb_second"
	// LambdaRequest is one invocation.
	LambdaRequest Item = "lambda_request"
	// S3Put is one PUT, POST or LIST; S3Get one GET or HEAD.
	S3Put Item = "s3_put"
	S3Get Item = "s3_get"
	// S3UploadGB and S3RetrieveGB are 2^30 bytes written and read, which some classes
	// charge for besides the requests.
	S3UploadGB   Item = "s3_upload_gb"
	S3RetrieveGB Item = "s3_retrieve_gb"
	// TransferGB is 10^9 bytes over public addresses within the region, for each of
	// the two directions.
	TransferGB Item = "transfer_gb"
	// ServerHour is the smallest server that runs the rendezvous (t4g.micro) for an
	// hour, AddressHour its public IPv4 address.
	ServerHour  Item = "server_hour"
	AddressHour Item = "address_hour"
)

// Architecture is a function's instruction set, as Lambda names it.
type Architecture string

// The architectures of Lambda.
const (
	X86 Architecture = "x86_64"
	ARM Architecture = "arm64"
)

// Class is a storage class of S3, as S3 names it.
type Class string

// The storage classes that suit data of minutes.
const (
	Standard       Class = "STANDARD"
	ExpressOneZone Class = "EXPRESS_ONEZONE"
)

// Figure is one price.
type Figure struct {
	Region string `json:"region"`
	Item   Item   `json:"item"`
	// Architecture is set for Lambda's items, Class for S3's.
	Architecture Architecture `json:"architecture,omitempty"`
	Class        Class        `json:"class,omitempty"`
	// USD is the price of one unit, 0 to 1000.
	USD float64 `json:"usd"`
	// Date is the day the figure was read, as YYYY-MM-DD; Source is where.
	Date   string `json:"date"`
	Source string `json:"source"`
}

// key is what there may be one figure of.
type key struct {
	region string
	item   Item
	arch   Architecture
	class  Class
}

func (f *Figure) key() key { return key{f.Region, f.Item, f.Architecture, f.Class} }

// Table is a checked set of figures. It is constant, and safe for concurrent use.
type Table struct{ figures map[key]Figure }

// ErrTable marks a table that cannot be used; the error says why.
var ErrTable = errors.New("price: bad table")

// Published gives the table that comes with the package.
func Published() (*Table, error) { return Read(bytes.NewReader(published)) }

// Read reads a table from JSON and checks it: every field known, every figure
// dated, sourced, in its range and there once, every region complete for at least
// one choice. Its errors wrap [ErrTable] or are the reader's.
func Read(r io.Reader) (*Table, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxTable+1))
	if err != nil {
		return nil, fmt.Errorf("price: read the table: %w", err)
	}
	if len(b) > maxTable {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTable, maxTable)
	}
	var doc struct {
		Version int      `json:"version"`
		Figures []Figure `json:"figures"`
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&doc); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTable, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: more than one JSON value", ErrTable)
	}
	if doc.Version != tableVersion {
		return nil, fmt.Errorf("%w: version %d, not %d", ErrTable, doc.Version, tableVersion)
	}
	t := &Table{figures: make(map[key]Figure, len(doc.Figures))}
	for i, f := range doc.Figures {
		if err := f.check(); err != nil {
			return nil, fmt.Errorf("%w: figure %d (%s of %s): %w", ErrTable, i, f.Item, f.Region, err)
		}
		if _, twice := t.figures[f.key()]; twice {
			return nil, fmt.Errorf("%w: figure %d: %s of %s stands there twice", ErrTable, i, f.Item, f.Region)
		}
		t.figures[f.key()] = f
	}
	return t, t.checkRegions()
}

func (f *Figure) check() error {
	var byArch, byClass bool
	switch f.Item {
	case LambdaGBSecond, LambdaRequest:
		byArch = true
	case S3Put, S3Get, S3UploadGB, S3RetrieveGB:
		byClass = true
	case TransferGB, ServerHour, AddressHour:
	default:
		return errors.New("the item is unknown")
	}
	if f.Region == "" {
		return errors.New("it has no region")
	}
	if byArch != (f.Architecture != "") || byClass != (f.Class != "") {
		return fmt.Errorf("architecture %q and class %q do not go with the item", f.Architecture, f.Class)
	}
	if byArch && f.Architecture != X86 && f.Architecture != ARM {
		return fmt.Errorf("the architecture %q is unknown", f.Architecture)
	}
	if byClass && f.Class != Standard && f.Class != ExpressOneZone {
		return fmt.Errorf("the class %q is unknown", f.Class)
	}
	if f.USD < 0 || f.USD > maxUSD {
		return fmt.Errorf("$%v is out of range, 0 to %d", f.USD, maxUSD)
	}
	if _, err := time.Parse(time.DateOnly, f.Date); err != nil {
		return fmt.Errorf("the date %q is none, use YYYY-MM-DD", f.Date)
	}
	if f.Source == "" {
		return errors.New("it has no source")
	}
	return nil
}

// checkRegions finds regions that can be chosen in no way.
func (t *Table) checkRegions() error {
	if len(t.figures) == 0 {
		return fmt.Errorf("%w: it has no figures", ErrTable)
	}
	for _, region := range t.Regions() {
		var first error
		complete := false
		for _, arch := range []Architecture{X86, ARM} {
			for _, class := range []Class{Standard, ExpressOneZone} {
				_, err := t.Rates(Choice{Region: region, Architecture: arch, Class: class})
				complete = complete || err == nil
				if first == nil {
					first = err
				}
			}
		}
		if !complete {
			return first
		}
	}
	return nil
}

// Regions lists the regions of which there are figures, in order.
func (t *Table) Regions() []string {
	var list []string
	for k := range t.figures {
		if !slices.Contains(list, k.region) {
			list = append(list, k.region)
		}
	}
	slices.Sort(list)
	return list
}
