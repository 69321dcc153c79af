package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/bradawl/bradawl/lambdaclient/exchange"
)

// Print writes the document for people.
func (d *Document) Print(w io.Writer) error {
	p := &printer{w: w}
	p.f("\nThe model of S3 (latency, limits, bandwidth) was %s.\n", d.S3Model)
	for i := range d.Runs {
		p.links(&d.Runs[i])
	}
	p.phases(d.Runs)
	p.paths(d.Runs)
	p.check(d.Runs)
	p.cost(d)
	for i := range d.Runs {
		p.notes(&d.Runs[i])
	}
	p.outcome(d)
	return p.err
}

type printer struct {
	w   io.Writer
	err error
}

func (p *printer) f(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// table writes rows with aligned columns.
func (p *printer) table(rows [][]string) {
	if p.err != nil {
		return
	}
	t := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range rows {
		if _, p.err = fmt.Fprintf(t, "%s\t\n", strings.Join(row, "\t")); p.err != nil {
			return
		}
	}
	p.err = t.Flush()
}

func (p *printer) links(s *Summary) {
	if s.Links.Wanted == 0 {
		return
	}
	p.f("\nLinks, %s: %d of %d direct", s.Mode, s.Links.Direct, s.Links.Wanted)
	if len(s.Links.ByPath) > 0 {
		p.f(" (%s)", counts(s.Links.ByPath))
	}
	if c := s.Links.Connect; c.N > 0 {
		p.f(", up after %s p50, %s p99, %s at most", c.P50, c.P99, c.Max)
	}
	p.f("\n")
	if len(s.Links.Failed) > 0 {
		p.f("  failed: %s\n", counts(s.Links.Failed))
	}
	if s.Links.Remade > 0 {
		p.f("  made anew after a break: %d\n", s.Links.Remade)
	}
}

func counts[K ~string](m map[K]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%d %s", m[k], k))
	}
	return strings.Join(parts, ", ")
}

// String gives the duration in a unit that suits it.
func (m MS) String() string {
	switch {
	case m >= 10_000:
		return fmt.Sprintf("%.1f s", float64(m)/1000)
	case m >= 1000:
		return fmt.Sprintf("%.2f s", float64(m)/1000)
	case m >= 10:
		return fmt.Sprintf("%.0f ms", float64(m))
	}
	return fmt.Sprintf("%.1f ms", float64(m))
}

func (p *printer) phases(runs []Summary) {
	p.f("\nWhere the time went (median and longest task; punch overlaps with read and map, serve is waiting for reducers)\n")
	head, names := []string{""}, []string(nil)
	by := make([]map[string]Spread, len(runs))
	for i, s := range runs {
		head = append(head, string(s.Mode), "longest")
		by[i] = map[string]Spread{}
		for _, ph := range s.Phases {
			by[i][ph.Name] = ph.Spread
		}
	}
	names = newPhases().names
	rows := [][]string{head}
	for _, name := range names {
		row, any := []string{name}, false
		for i := range runs {
			if s, ok := by[i][name]; ok {
				row, any = append(row, s.P50.String(), s.Max.String()), true
			} else {
				row = append(row, "-", "-")
			}
		}
		if any {
			rows = append(rows, row)
		}
	}
	total := []string{"whole run"}
	for _, s := range runs {
		total = append(total, s.Wall.String(), "")
	}
	p.table(append(rows, total))
}

func (p *printer) paths(runs []Summary) {
	p.f("\nRequests and bytes by path\n")
	head := []string{""}
	for _, s := range runs {
		head = append(head, string(s.Mode), "bytes")
	}
	rows := [][]string{head}
	for _, line := range []struct {
		name string
		of   func(Paths) Traffic
	}{
		{"shuffle over links", func(p Paths) Traffic { return p.Direct }},
		{"shuffle through S3", func(p Paths) Traffic { return p.ShuffleS3 }},
		{"input from S3", func(p Paths) Traffic { return p.Input }},
		{"output to S3", func(p Paths) Traffic { return p.Output }},
		{"markers on S3", func(p Paths) Traffic { return p.Control }},
	} {
		row := []string{line.name}
		for _, s := range runs {
			t := line.of(s.Paths)
			row = append(row, fmt.Sprint(t.Requests), size(t.Bytes))
		}
		rows = append(rows, row)
	}
	p.table(rows)
}

func (p *printer) check(runs []Summary) {
	for _, s := range runs {
		if s.S3.Equal {
			p.f("S3's own count of the %s run agrees: %s\n", s.Mode, operations(s.S3.Server))
		} else {
			p.f("S3's own count of the %s run: %s; counted by the tasks that answered: %s\n", s.Mode, operations(s.S3.Server), operations(s.S3.Counted))
		}
	}
}

func operations(m map[string]int64) string {
	var parts []string
	for _, op := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%d %s", m[op], op))
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

func size(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.2f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d B", n)
}

func (p *printer) cost(d *Document) {
	p.f("\nWhat it would have cost on AWS (%s, prices of %s, %d MB of memory)\n", d.Prices.Region, d.Prices.Date, d.Memory)
	head := []string{""}
	for _, s := range d.Runs {
		head = append(head, string(s.Mode))
	}
	rows := [][]string{head}
	for _, line := range []struct {
		name string
		of   func(Summary) string
	}{
		{"Lambda, GB-s", func(s Summary) string { return fmt.Sprintf("%.1f", s.Usage.GBSeconds) }},
		{"Lambda", func(s Summary) string { return dollars(s.Bill.Lambda) }},
		{"S3 requests", func(s Summary) string { return dollars(s.Bill.S3) }},
		{"rendezvous", func(s Summary) string { return dollars(s.Bill.Rendezvous) }},
		{"sum, if transfer between functions is free", func(s Summary) string { return dollars(s.Bill.Free()) }},
		{"sum, if it costs $" + fmt.Sprint(d.Prices.TransferGB) + "/GB each way", func(s Summary) string { return dollars(s.Bill.Charged()) }},
	} {
		row := []string{line.name}
		for _, s := range d.Runs {
			row = append(row, line.of(s))
		}
		rows = append(rows, row)
	}
	p.table(rows)
}

func dollars(d float64) string { return fmt.Sprintf("$%.6f", d) }

func (p *printer) notes(s *Summary) {
	if len(s.Notes) == 0 && s.Resumed == 0 && len(s.Synced) == 0 {
		return
	}
	p.f("\nWhat happened in the %s run\n", s.Mode)
	for _, note := range s.Notes {
		p.f("  %s\n", note)
	}
	if len(s.Ladder) > 0 && s.Mode != exchange.S3 {
		p.f("  partitions by the path of their last byte: %s; broken off and resumed: %d\n", counts(s.Ladder), s.Resumed)
	}
	if len(s.Synced) > 0 {
		p.f("  mappers that wrote to S3, by the cause: %s\n", counts(s.Synced))
	}
}

func (p *printer) outcome(d *Document) {
	p.f("\n")
	if len(d.Runs) == 2 {
		a, b := d.Runs[0], d.Runs[1]
		p.f("The %s run took %s, the %s run %s: %.2f times as long.\n", a.Mode, a.Wall, b.Mode, b.Wall, float64(b.Wall)/float64(a.Wall))
	}
	if d.Equal != nil {
		if *d.Equal {
			p.f("Both outputs are equal, byte for byte.\n")
		} else {
			p.f("THE OUTPUTS DIFFER.\n")
		}
	}
	if len(d.Runs) > 0 {
		p.f("%d words, %d of them distinct, from %d files of %s.\n", d.Runs[0].Emitted, d.Runs[0].Keys, d.Input.Files, size(d.Input.Bytes))
	}
	p.f("The output is in %s\n", d.Output)
}
