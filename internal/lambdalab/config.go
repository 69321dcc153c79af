package lambdalab

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// Limits of the real service that the lab keeps.
const (
	// MaxTimeout is the longest Function.Timeout.
	MaxTimeout = 15 * time.Minute
	// maxSyncPayload bounds the payload of synchronous invocations, in bytes.
	maxSyncPayload = 6 << 20
	// maxAsyncPayload bounds the payload of asynchronous invocations, in bytes.
	maxAsyncPayload = 1 << 20
	// maxResponse bounds the response of a function, in bytes.
	maxResponse = 6<<20 + 100
	// shutdownGrace is the time between SIGTERM and SIGKILL.
	shutdownGrace = 500 * time.Millisecond
)

// Config says how a service is run. The zero value is usable.
type Config struct {
	// Listen is the address of the Invoke API; the zero value is any free
	// port of 127.0.0.1.
	Listen netip.AddrPort
	// Network makes the places of the environments; nil means Loopback.
	Network Network
	// Region is the region that the service claims to be; empty means us-east-1.
	Region string
	// Concurrency is how many invocations may run at once in the account;
	// 0 means 1,000.
	Concurrency int
	// Queue is how many asynchronous invocations may wait; 0 means 1,000.
	Queue int
	// InitTimeout is how long an environment may take to ask for its first
	// invocation; 0 means 10 s, as in the real service.
	InitTimeout time.Duration
	// Dir is where environments have their temporary directories; empty means
	// the system's directory for temporary files.
	Dir string
	// LogBytes bounds the log lines kept by the service, in bytes; the oldest
	// are dropped first. 0 means 32 MiB.
	LogBytes int
	// OnEvent, if not nil, is called at every change of an environment's
	// state, one call at a time, in order. It must return quickly and must
	// not call the service.
	OnEvent func(Event)
	// OnLine, if not nil, is called for each line of an environment's log as it
	// arrives, those of different environments at the same time. It must return
	// quickly and must not call the service.
	OnLine func(Line)
}

func (c Config) withDefaults() Config {
	if !c.Listen.IsValid() {
		c.Listen = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	}
	if c.Network == nil {
		c.Network = Loopback{}
	}
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	if c.Concurrency <= 0 {
		c.Concurrency = 1000
	}
	if c.Queue <= 0 {
		c.Queue = 1000
	}
	if c.InitTimeout <= 0 {
		c.InitTimeout = 10 * time.Second
	}
	if c.LogBytes <= 0 {
		c.LogBytes = 32 << 20
	}
	return c
}

// Function is a function of the service.
type Function struct {
	// Name has up to 64 letters, digits, hyphens and underscores. Required.
	Name string
	// Command is the program of an execution environment and its arguments.
	// A program without a slash is looked up in PATH. Required.
	Command []string
	// Env is the function's environment. Nothing else of this process's
	// environment is passed on. Entries replace those that the service sets.
	Env map[string]string
	// Handler is passed on as _HANDLER; empty means "bootstrap".
	Handler string
	// Timeout bounds an invocation; 0 means 3 s, the most is MaxTimeout.
	Timeout time.Duration
	// MemoryMB is how much resident memory an environment's process may have,
	// in MiB, and what its time is billed by; 0 means 128.
	MemoryMB int
	// Concurrency is how many invocations of this function may run at once.
	// What is set here is taken from the account's limit; 0 means what is
	// left of that.
	Concurrency int
	// AsyncRetries is how often an asynchronous invocation that failed is
	// tried again. Unlike the real service, 0 means never.
	AsyncRetries int
	// RetryDelay is the wait before the first such retry, twice that before
	// the second and so on; 0 means one minute.
	RetryDelay time.Duration
}

// checked returns the function with its defaults filled in, in a copy of its own.
func (f Function) checked() (Function, error) {
	if !regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`).MatchString(f.Name) {
		return f, fmt.Errorf("lambdalab: create function %q: the name must be 1 to 64 letters, digits, hyphens and underscores", f.Name)
	}
	fail := func(err error) (Function, error) {
		return f, fmt.Errorf("lambdalab: create function %s: %w", f.Name, err)
	}
	if len(f.Command) == 0 {
		return fail(errors.New("its command is empty"))
	}
	f.Command = slices.Clone(f.Command)
	program, err := exec.LookPath(f.Command[0])
	if err != nil {
		return fail(err)
	}
	if f.Command[0], err = filepath.Abs(program); err != nil {
		return fail(err)
	}
	if f.Timeout == 0 {
		f.Timeout = 3 * time.Second
	}
	if f.Timeout < 0 || f.Timeout > MaxTimeout {
		return fail(fmt.Errorf("the timeout %s is not between 0 and %s", f.Timeout, MaxTimeout))
	}
	if f.MemoryMB == 0 {
		f.MemoryMB = 128
	}
	if f.MemoryMB < 0 || f.Concurrency < 0 || f.AsyncRetries < 0 || f.RetryDelay < 0 {
		return fail(errors.New("limits must not be negative"))
	}
	if f.RetryDelay == 0 {
		f.RetryDelay = time.Minute
	}
	if f.Handler == "" {
		f.Handler = "bootstrap"
	}
	f.Env = maps.Clone(f.Env)
	return f, nil
}
