package stage

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/bradawl/bradawl/mapreduce-demo/task"
	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/token"
)

// starter starts a process somewhere.
type starter interface {
	Start(cmd *exec.Cmd) error
}

// here starts processes where this one runs.
type here struct{}

func (here) Start(cmd *exec.Cmd) error { return cmd.Start() }

// rendezvousConfig says how the server's process is started.
type rendezvousConfig struct {
	command []string
	dir     string
	addr    netip.Addr
	place   starter
}

// Rendezvous is the rendezvous server, a process of its own.
type Rendezvous struct {
	cfg  rendezvousConfig
	args []string

	mu      sync.Mutex
	current *server
}

// server is one run of the process.
type server struct {
	cmd     *exec.Cmd
	started chan struct{} // closed when the process is there
	ready   chan struct{} // closed when it listens
	ended   chan struct{} // closed when it has ended
	err     error         // of its start or its end; valid once ended is closed
}

const rendezvousPort = 3478

func startRendezvous(ctx context.Context, cfg rendezvousConfig) (*Rendezvous, error) {
	addr := netip.AddrPortFrom(cfg.addr, rendezvousPort)
	r := &Rendezvous{cfg: cfg, args: []string{"--http", "off"}}
	if cfg.addr.IsLoopback() {
		port, err := freePort()
		if err != nil {
			return nil, fmt.Errorf("find a port for the rendezvous: %w", err)
		}
		addr = netip.AddrPortFrom(cfg.addr, port)
		r.args = append(r.args, "--stun-alternate", "off")
	}
	r.args = append(r.args, "--listen", addr.String(), "--public-addr", addr.String(), "--state-dir", cfg.dir, "--log-format", "json")
	return r, r.Restart(ctx)
}

// Restart starts the server again on the same address and state, after killing
// it if it still runs, and returns when it listens.
func (r *Rendezvous) Restart(ctx context.Context) error {
	r.Kill()
	logs, err := os.OpenFile(r.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start the rendezvous: %w", err)
	}
	defer logs.Close()
	words := append(append([]string(nil), r.cfg.command...), r.args...)
	cmd := exec.Command(words[0], words[1:]...)
	// Nothing of this process's environment: it may hold settings of another server.
	cmd.Env = []string{}
	cmd.Stderr = logs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	s := &server{cmd: cmd, started: make(chan struct{}), ready: make(chan struct{}), ended: make(chan struct{})}
	r.mu.Lock()
	r.current = s
	r.mu.Unlock()
	go s.run(r.cfg.place)
	select {
	case <-s.ready:
		return nil
	case <-s.ended:
		return fmt.Errorf("the rendezvous ended at its start: %w%s", s.err, r.lastWords())
	case <-ctx.Done():
		r.Kill()
		return fmt.Errorf("start the rendezvous: %w", context.Cause(ctx))
	}
}

// run starts the process and waits for its end. The kernel ends the process when
// the thread ends that started it, so that stays until then.
func (s *server) run(place starter) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(s.ended)
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		s.err = err
		return
	}
	if s.err = place.Start(s.cmd); s.err != nil {
		return
	}
	close(s.started)
	lines := bufio.NewScanner(out)
	if lines.Scan() {
		close(s.ready)
	}
	for lines.Scan() {
	}
	if s.err = s.cmd.Wait(); s.err == nil {
		s.err = errors.New("it exited")
	}
}

// Kill ends the server by SIGKILL, as a crash would, and waits for its end.
func (r *Rendezvous) Kill() { r.end(syscall.SIGKILL) }

// Close ends the server in order, or not at all in order if that takes too long.
func (r *Rendezvous) Close() { r.end(syscall.SIGTERM) }

func (r *Rendezvous) end(sig syscall.Signal) {
	r.mu.Lock()
	s := r.current
	r.mu.Unlock()
	if s == nil {
		return
	}
	select {
	case <-s.started:
	case <-s.ended:
		return
	}
	// The error means that it has ended by itself.
	_ = s.cmd.Process.Signal(sig)
	select {
	case <-s.ended:
	case <-time.After(3 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
}

func (r *Rendezvous) logFile() string { return filepath.Join(r.cfg.dir, "log") }

// lastWords are the last lines of the server's log.
func (r *Rendezvous) lastWords() string {
	text, err := os.ReadFile(r.logFile())
	if err != nil || len(text) == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return ": " + lines[len(lines)-1]
}

// URL makes a connection string whose token is good for one group only, for any
// name in it, and not for long.
func (r *Rendezvous) URL(group string, lifetime time.Duration) (task.Secret, error) {
	text, err := os.ReadFile(filepath.Join(r.cfg.dir, "url"))
	if err != nil {
		return "", fmt.Errorf("read the rendezvous's connection string: %w", err)
	}
	url, err := protocol.ParseURL(strings.TrimSpace(string(text)))
	if err != nil {
		return "", err
	}
	key, err := token.LoadKey(filepath.Join(r.cfg.dir, "token.key"))
	if err != nil {
		return "", err
	}
	now := time.Now()
	url.Token, err = token.Mint(key, token.Claims{
		Group: group, Name: "*", IssuedAt: now, Expires: now.Add(lifetime), ID: group,
	})
	if err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	return task.Secret(url.Secret()), nil
}
