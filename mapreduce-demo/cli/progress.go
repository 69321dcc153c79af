package cli

import (
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/bradawl/bradawl/lambdaclient/exchange"
	"github.com/bradawl/bradawl/mapreduce-demo/driver"
	"github.com/bradawl/bradawl/mapreduce-demo/task"
)

// progress tells people what goes on: bars on a terminal, lines elsewhere. Its
// methods may be called from several goroutines.
type progress struct {
	w        io.Writer
	terminal bool

	mu      sync.Mutex
	run     string // id of the run at work; events of others are old
	mode    exchange.Mode
	mappers int
	mapped  map[int]bool
	reduced map[int]bool
	bars    *mpb.Progress
	mapBar  *mpb.Bar
	redBar  *mpb.Bar
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w}
	if f, ok := w.(*os.File); ok {
		p.terminal = term.IsTerminal(int(f.Fd()))
	}
	return p
}

// say writes one line.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line(fmt.Sprintf(format, args...))
}

func (p *progress) line(text string) {
	if p.bars != nil {
		fmt.Fprintln(p.bars, text) // above the bars
		return
	}
	fmt.Fprintln(p.w, text)
}

// begin starts to show a run.
func (p *progress) begin(run string, mode exchange.Mode, mappers, reducers int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.run, p.mode, p.mappers = run, mode, mappers
	p.mapped, p.reduced = map[int]bool{}, map[int]bool{}
	if !p.terminal {
		p.line(fmt.Sprintf("%s: %d mappers, %d reducers", mode, mappers, reducers))
		return
	}
	p.bars = mpb.New(mpb.WithOutput(p.w), mpb.WithWidth(48))
	bar := func(name string, total int) *mpb.Bar {
		return p.bars.AddBar(int64(total),
			mpb.PrependDecorators(decor.Name(fmt.Sprintf("%s %s", mode, name), decor.WC{W: 14, C: decor.DindentRight})),
			mpb.AppendDecorators(decor.CountersNoUnit("%d of %d"), decor.Elapsed(decor.ET_STYLE_GO, decor.WC{W: 6})))
	}
	p.mapBar, p.redBar = bar("map", mappers), bar("reduce", reducers)
}

// end stops to show it.
func (p *progress) end() {
	p.mu.Lock()
	bars := p.bars
	if bars != nil {
		// A failed run leaves its bars where they are.
		p.mapBar.Abort(false)
		p.redBar.Abort(false)
	}
	p.mu.Unlock()
	if bars != nil {
		bars.Wait()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bars, p.mapBar, p.redBar, p.run = nil, nil, nil, ""
}

// worker shows what a worker told.
func (p *progress) worker(e task.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.Run != p.run {
		return
	}
	if e.Note != "" {
		p.line(fmt.Sprintf("%s: %s: %s", p.mode, e.ID, e.Note))
	}
	if e.Kind == task.Map && e.At == task.Mapped {
		p.mapDone(e.Index)
	}
}

func (p *progress) mapDone(i int) {
	if p.mapped[i] {
		return
	}
	p.mapped[i] = true
	if p.mapBar != nil {
		p.mapBar.Increment()
	} else if len(p.mapped) == p.mappers {
		p.line(fmt.Sprintf("%s: all %d mappers have finished their partitions", p.mode, p.mappers))
	}
}

// driver shows what the driver did.
func (p *progress) driver(e driver.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e.Kind {
	case driver.TaskDone:
		if e.ID.Kind == task.Map {
			p.mapDone(e.ID.Index)
			return
		}
		if p.reduced[e.ID.Index] {
			return
		}
		p.reduced[e.ID.Index] = true
		if p.redBar != nil {
			p.redBar.Increment()
		} else {
			p.line(fmt.Sprintf("%s: reducer %d has committed its output", p.mode, e.ID.Index))
		}
	case driver.TaskFailed:
		p.line(fmt.Sprintf("%s: %s failed: %s", p.mode, e.ID, e.Note))
	case driver.Noted:
		p.line(fmt.Sprintf("%s: %s", p.mode, e.Note))
	}
}
