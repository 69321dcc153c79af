package lambdalab

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// Line is a line of an environment's log, without its line end.
type Line struct {
	Time        time.Time
	Environment string
	RequestID   string // empty outside of invocations
	Text        string
}

// logStore keeps the lines of all environments up to a total size.
type logStore struct {
	limit  int
	onLine func(Line) // nil: nobody listens

	mu    sync.Mutex
	lines []Line
	bytes int
}

// lineOverhead is what a line counts for beside its text.
const lineOverhead = 128

func newLogStore(limit int, onLine func(Line)) *logStore {
	return &logStore{limit: limit, onLine: onLine}
}

func (s *logStore) add(l Line) {
	if s.onLine != nil {
		defer s.onLine(l)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, l)
	s.bytes += len(l.Text) + lineOverhead
	drop := 0
	for s.bytes > s.limit && drop < len(s.lines) {
		s.bytes -= len(s.lines[drop].Text) + lineOverhead
		drop++
	}
	s.lines = s.lines[drop:]
}

func (s *logStore) find(match func(Line) bool) []Line {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Line
	for _, l := range s.lines {
		if match(l) {
			out = append(out, l)
		}
	}
	return out
}

// Logs returns the lines that were written during an invocation, START, END
// and REPORT included, as far as they are still kept.
func (s *Service) Logs(requestID string) []Line {
	return s.logs.find(func(l Line) bool { return l.RequestID == requestID })
}

// EnvironmentLogs returns all lines of an environment, as far as they are
// still kept, also after its end.
func (s *Service) EnvironmentLogs(environment string) []Line {
	return s.logs.find(func(l Line) bool { return l.Environment == environment })
}

// logTail returns the last 4 KiB of an invocation's log.
func (s *Service) logTail(requestID string) []byte {
	var b bytes.Buffer
	for _, l := range s.Logs(requestID) {
		b.WriteString(l.Text)
		b.WriteByte('\n')
	}
	return b.Bytes()[max(0, b.Len()-4096):]
}

// maxLine is where longer lines are cut in pieces, in bytes.
const maxLine = 64 << 10

// logPipe takes the output of one environment's processes. What is written
// belongs to the invocation at whose time it was written, even though it is
// read later: a mark written into the same pipe tells when all output before
// it has been read.
type logPipe struct {
	store *logStore
	env   string
	r, w  *os.File
	mark  []byte

	mu        sync.Mutex
	requestID string
	closed    bool

	marked chan struct{}
	done   chan struct{} // closed when the reader has ended
}

func newLogPipe(store *logStore, env string) (*logPipe, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe for the log: %w", err)
	}
	p := &logPipe{
		store: store, env: env, r: r, w: w,
		mark:   []byte("\x00" + rand.Text() + "\x00\n"),
		marked: make(chan struct{}),
		done:   make(chan struct{}),
	}
	go p.read()
	return p, nil
}

// line adds a line of the service's own.
func (p *logPipe) line(text string) {
	p.mu.Lock()
	id := p.requestID
	p.mu.Unlock()
	p.store.add(Line{Time: time.Now(), Environment: p.env, RequestID: id, Text: text})
}

// begin makes the lines from now on belong to an invocation, or to none.
func (p *logPipe) begin(requestID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requestID = requestID
}

// drain returns when all that has been written so far has been read.
func (p *logPipe) drain() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	_, err := p.w.Write(p.mark)
	p.mu.Unlock()
	if err != nil {
		return
	}
	select {
	case <-p.marked:
	case <-p.done:
	}
}

// close drains the pipe and ends the reader, even if some process still has
// the other end.
func (p *logPipe) close() {
	p.drain()
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	p.mu.Unlock()
	p.w.Close()
	p.r.Close()
	<-p.done
}

func (p *logPipe) read() {
	defer close(p.done)
	var pending []byte
	chunk := make([]byte, 16<<10)
	for {
		n, err := p.r.Read(chunk)
		pending = append(pending, chunk[:n]...)
		pending = p.split(pending)
		if err != nil {
			if len(pending) > 0 {
				p.line(string(pending))
			}
			return
		}
	}
}

// split takes the whole lines off b and returns the rest.
func (p *logPipe) split(b []byte) []byte {
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			break
		}
		line := b[:i+1]
		b = b[i+1:]
		before, isMark := bytes.CutSuffix(line, p.mark)
		if !isMark {
			p.line(strings.TrimRight(string(line), "\r\n"))
			continue
		}
		if len(before) > 0 { // a line that has no end yet
			p.line(string(before))
		}
		p.marked <- struct{}{}
	}
	// The beginning of a mark stays whole.
	for keep := len(p.mark); len(b)-keep > maxLine; {
		p.line(string(b[:maxLine]))
		b = b[maxLine:]
	}
	return append([]byte(nil), b...)
}
