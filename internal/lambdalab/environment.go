package lambdalab

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// openFiles is how many files an environment's process may have open.
const openFiles = 1024

// environment is an execution environment: a place, the process in it, and
// the HTTP server that the process asks for its invocations.
type environment struct {
	svc     *Service
	fn      *function
	id      string
	created time.Time
	logs    *logPipe
	tmp     string

	work    chan *invocation // capacity 1: for the runtime to take
	ready   chan struct{}    // closed when it has initialized
	started chan struct{}    // closed when its process has a number
	exited  chan struct{}    // closed when its process has ended or could not be started
	gone    chan struct{}    // closed when all that belonged to it is gone

	// Set before exited is closed, to be read afterwards.
	startErr error
	exit     *os.ProcessState

	// Guarded by the service's mutex.
	state        State
	place        Place
	pid          int  // 0 unless the process runs
	doomed       bool // to be killed as soon as it has a process
	outOfMemory  bool
	runtimeReady bool
	initErr      *functionError // what it reported by init/error
	initDuration time.Duration
	current      *invocation
	invocations  int
	maxMemoryMB  int
	extensions   map[string]*extension
}

// launch starts an environment for a function. It returns at once; the
// environment is in the state Starting.
func (s *Service) launch(fn *function) (*environment, error) {
	id := fn.Name[:min(len(fn.Name), 20)] + "-" + strings.ToLower(rand.Text()[:8])
	logs, err := newLogPipe(s.logs, id)
	if err != nil {
		return nil, fmt.Errorf("lambdalab: start an environment of %s: %w", fn.Name, err)
	}
	e := &environment{
		svc: s, fn: fn, id: id, created: time.Now(), logs: logs,
		tmp:        filepath.Join(s.dir, id),
		work:       make(chan *invocation, 1),
		ready:      make(chan struct{}),
		started:    make(chan struct{}),
		exited:     make(chan struct{}),
		gone:       make(chan struct{}),
		extensions: make(map[string]*extension),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		logs.close()
		return nil, ErrClosed
	}
	s.envs[id] = e
	s.enter(e, Starting)
	s.wg.Go(e.live)
	return e, nil
}

// live is the environment's life.
func (e *environment) live() {
	defer close(e.gone)
	s := e.svc
	undo, err := e.run()
	if err != nil {
		e.startErr = fmt.Errorf("lambdalab: start environment %s: %w", e.id, err)
		e.logs.line(e.startErr.Error())
	}
	s.mu.Lock()
	e.leaveIdle()
	s.mu.Unlock()
	close(e.exited)
	for i := len(undo) - 1; i >= 0; i-- {
		undo[i]()
	}
	s.mu.Lock()
	delete(s.envs, e.id)
	s.enter(e, Dead)
	s.mu.Unlock()
}

// leaveIdle keeps the environment from getting an invocation. It is called
// with the service's mutex held.
func (e *environment) leaveIdle() {
	if i := slices.Index(e.fn.idle, e); i >= 0 {
		e.fn.idle = slices.Delete(e.fn.idle, i, i+1)
	}
}

// run makes the place, starts the process and waits for its end. It returns
// what is to be undone, in reverse order, also with an error.
func (e *environment) run() (undo []func(), err error) {
	s := e.svc
	undo = append(undo, e.logs.close)
	if err := os.Mkdir(e.tmp, 0o700); err != nil {
		return undo, err
	}
	undo = append(undo, func() { _ = os.RemoveAll(e.tmp) })
	place, err := s.cfg.Network.NewPlace(s.ctx, e.id)
	if err != nil {
		return undo, fmt.Errorf("make its place: %w", err)
	}
	undo = append(undo, func() {
		if err := place.Close(); err != nil {
			e.logs.line("lambdalab: close the place: " + err.Error())
		}
	})
	s.mu.Lock()
	e.place = place
	s.mu.Unlock()
	ln, err := place.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return undo, fmt.Errorf("listen for the Runtime API: %w", err)
	}
	routes := e.routes()
	api := &http.Server{ErrorLog: discardLog(), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select { // a quick process may call before this one knows its number
		case <-e.started:
			routes.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = api.Serve(ln) })
	undo = append(undo, func() {
		_ = api.Close()
		serving.Wait()
	})
	return undo, e.process(place, ln.Addr())
}

// process starts the environment's process and waits for its end, all on one
// thread: the kernel ends the process together with the thread it was started
// on.
func (e *environment) process(place Place, api net.Addr) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command(e.fn.Command[0], e.fn.Command[1:]...)
	cmd.Dir = filepath.Dir(e.fn.Command[0])
	cmd.Env = e.variables(api.String())
	cmd.Stdout, cmd.Stderr = e.logs.w, e.logs.w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := place.Start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", e.fn.Command[0], err)
	}
	limit := unix.Rlimit{Cur: openFiles, Max: openFiles}
	_ = unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_NOFILE, &limit, nil) // it may have ended

	s := e.svc
	s.mu.Lock()
	e.pid = cmd.Process.Pid
	close(e.started)
	if e.doomed {
		_ = e.signal(syscall.SIGKILL)
	}
	s.mu.Unlock()
	// As long as the process has not been waited for, its number and its
	// group's are nobody else's. What is left of the group goes with it.
	awaitExit(cmd.Process.Pid)
	s.mu.Lock()
	_ = e.signal(syscall.SIGKILL)
	e.pid = 0
	s.mu.Unlock()
	err := cmd.Wait()
	e.exit = cmd.ProcessState
	if exitErr := new(exec.ExitError); err != nil && !errors.As(err, &exitErr) {
		return fmt.Errorf("wait for its process: %w", err)
	}
	return nil
}

// awaitExit returns when a child of this process has ended, and leaves it to
// be waited for.
func awaitExit(pid int) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// variables returns the process's environment.
func (e *environment) variables(api string) []string {
	region := e.svc.cfg.Region
	vars := map[string]string{
		"AWS_LAMBDA_RUNTIME_API":          api,
		"AWS_LAMBDA_FUNCTION_NAME":        e.fn.Name,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(e.fn.MemoryMB),
		"AWS_LAMBDA_FUNCTION_VERSION":     "$LATEST",
		"AWS_LAMBDA_LOG_GROUP_NAME":       "/aws/lambda/" + e.fn.Name,
		"AWS_LAMBDA_LOG_STREAM_NAME":      e.created.UTC().Format("2006/01/02") + "/[$LATEST]" + e.id,
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_REGION":                      region,
		"AWS_DEFAULT_REGION":              region,
		"LAMBDA_TASK_ROOT":                filepath.Dir(e.fn.Command[0]),
		"LAMBDA_RUNTIME_DIR":              filepath.Dir(e.fn.Command[0]),
		"_HANDLER":                        e.fn.Handler,
		"TMPDIR":                          e.tmp,
		"TZ":                              ":UTC",
		"LANG":                            "en_US.UTF-8",
		"PATH":                            "/usr/local/bin:/usr/bin:/bin",
	}
	for k, v := range e.fn.Env {
		vars[k] = v
	}
	out := make([]string, 0, len(vars))
	for k, v := range vars {
		out = append(out, k+"="+v)
	}
	return out
}
