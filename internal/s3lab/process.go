package s3lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// process is one run of the server's process.
type process struct {
	cmd    *exec.Cmd
	stderr *tail
	stdin  *os.File

	ready  chan netip.AddrPort // capacity 1
	failed chan string         // capacity 1: the reason the child gave for its end
	exited chan struct{}       // closed once the process has been waited for
	state  error               // of cmd.Wait; valid once exited is closed

	mu      sync.Mutex
	enc     *json.Encoder
	nextID  uint64
	pending map[uint64]chan Stats

	readers sync.WaitGroup
}

// launch starts the process and hands it its orders; it does not wait until
// the server is ready.
func launch(place Placer, with startWith) (*process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("s3lab: find the own program: %w", err)
	}
	stdin, toChild, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("s3lab: make a pipe: %w", err)
	}
	fromChild, stdout, err := os.Pipe()
	if err != nil {
		stdin.Close()
		toChild.Close()
		return nil, fmt.Errorf("s3lab: make a pipe: %w", err)
	}
	p := &process{
		cmd:     exec.Command(exe),
		stderr:  &tail{limit: 8 << 10},
		stdin:   toChild,
		ready:   make(chan netip.AddrPort, 1),
		failed:  make(chan string, 1),
		exited:  make(chan struct{}),
		enc:     json.NewEncoder(toChild),
		pending: make(map[uint64]chan Stats),
	}
	// The process gets nothing of this one's environment: it may hold
	// credentials for the real service.
	p.cmd.Env = []string{childVariable + "=1"}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = stdin, stdout, p.stderr

	started := make(chan error, 1)
	go p.run(place, started)
	err = <-started
	stdin.Close()
	stdout.Close()
	if err != nil {
		toChild.Close()
		fromChild.Close()
		return nil, fmt.Errorf("s3lab: start the server's process: %w", err)
	}
	p.readers.Go(func() {
		defer fromChild.Close()
		p.readReplies(fromChild)
	})
	if err := p.order(order{Start: &with}); err != nil {
		p.kill()
		return nil, p.death(err)
	}
	return p, nil
}

// run starts the process and waits for its end, on a thread of its own: the
// kernel sends the signal of Pdeathsig when the thread that started the
// process ends, not when the whole parent does. Where somebody else starts
// the process, on whatever thread, only the pipe tells of the parent's end.
func (p *process) run(place Placer, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var err error
	if place == nil {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err = p.cmd.Start()
	} else {
		err = place.Start(p.cmd)
	}
	started <- err
	if err != nil {
		return
	}
	p.state = p.cmd.Wait()
	close(p.exited)
}

func (p *process) readReplies(r *os.File) {
	dec := json.NewDecoder(r)
	for {
		var v reply
		if dec.Decode(&v) != nil {
			return
		}
		switch {
		case v.Ready != nil:
			p.ready <- *v.Ready
		case v.Error != "":
			p.failed <- v.Error
		case v.Stats != nil:
			p.mu.Lock()
			ch := p.pending[v.ID]
			delete(p.pending, v.ID)
			p.mu.Unlock()
			if ch != nil {
				ch <- *v.Stats
			}
		}
	}
}

func (p *process) order(o order) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.enc.Encode(o)
}

// stats asks the process for its counts.
func (p *process) stats(ctx context.Context) (Stats, error) { return p.ask(ctx, order{}) }

// ask has the process carry out an order and tell its counts.
func (p *process) ask(ctx context.Context, o order) (Stats, error) {
	ch := make(chan Stats, 1)
	p.mu.Lock()
	p.nextID++
	id := p.nextID
	p.pending[id] = ch
	o.ID = id
	err := p.enc.Encode(o)
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.pending, id)
		p.mu.Unlock()
	}()
	if err != nil {
		return Stats{}, fmt.Errorf("s3lab: ask the server for its counts: %w", err)
	}
	select {
	case s := <-ch:
		return s, nil
	case <-p.exited:
		return Stats{}, p.death(errors.New("it ended while asked for its counts"))
	case <-ctx.Done():
		return Stats{}, fmt.Errorf("s3lab: wait for the server's counts: %w", context.Cause(ctx))
	}
}

// end closes the lifeline and waits; the child ends at once.
func (p *process) end() {
	p.stdin.Close()
	<-p.exited
	p.readers.Wait()
}

// kill ends the process by SIGKILL and waits. A process that has ended
// already is no error.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	p.end()
}

// death tells why the process is gone: what it said itself, else how it
// ended, and the last lines it wrote. It waits for the process's end.
func (p *process) death(cause error) error {
	<-p.exited
	p.readers.Wait()
	select {
	case reason := <-p.failed:
		return errors.New(reason)
	default:
	}
	last := p.stderr.lastLines(5)
	if last != "" {
		last = ": " + last
	}
	how := "exit status 0"
	if p.state != nil {
		how = p.state.Error()
	}
	return fmt.Errorf("s3lab: the server's process has ended (%s; %w)%s", how, cause, last)
}

// tail keeps the last bytes written to it. It is safe for concurrent use.
type tail struct {
	limit int

	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - t.limit; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(b), nil
}

// lastLines returns the last n lines on a single line.
func (t *tail) lastLines(n int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.FieldsFunc(string(bytes.TrimSpace(t.buf)), func(r rune) bool { return r == '\n' || r == '\r' })
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}
