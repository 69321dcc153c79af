package lambdalab

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"
)

// State is where an execution environment is in its life.
type State string

// The states, in the order of a life.
const (
	Starting State = "starting" // until it asks for its first invocation
	Busy     State = "busy"     // has an invocation
	Idle     State = "idle"     // frozen, waits for the next invocation
	Stopping State = "stopping" // was told to end
	Dead     State = "dead"     // its process has ended
)

// Environment is a snapshot of an execution environment.
type Environment struct {
	ID          string
	Function    string
	State       State
	PID         int    // of its process, which leads a process group; 0 before it runs
	RequestID   string // of the invocation it has
	Payload     []byte // of that invocation; not to be modified
	Invocations int    // finished and running
	Started     time.Time
	Place       Place // nil until it is made
}

// Event is a change of an environment's state.
type Event struct {
	Time        time.Time
	Environment Environment
}

// Environments returns the environments that are not dead, oldest first.
func (s *Service) Environments() []Environment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.snapshot()
}

func (s *Service) snapshot() []Environment {
	out := make([]Environment, 0, len(s.envs))
	for _, e := range s.envs {
		out = append(out, e.describe())
	}
	slices.SortFunc(out, func(a, b Environment) int {
		if c := a.Started.Compare(b.Started); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// describe is called with the service's mutex held.
func (e *environment) describe() Environment {
	d := Environment{
		ID: e.id, Function: e.fn.Name, State: e.state, PID: e.pid,
		Invocations: e.invocations, Started: e.created, Place: e.place,
	}
	if e.current != nil {
		d.RequestID, d.Payload = e.current.id, e.current.payload
	}
	return d
}

// Await returns as soon as the condition holds for the environments that are
// not dead, and returns those. It looks again at every change of a state. The
// condition must not call the service.
func (s *Service) Await(ctx context.Context, condition func([]Environment) bool) ([]Environment, error) {
	for {
		s.mu.Lock()
		envs, changed := s.snapshot(), s.changed
		s.mu.Unlock()
		if condition(envs) {
			return envs, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return envs, fmt.Errorf("lambdalab: wait for environments: %w", context.Cause(ctx))
		}
	}
}

// Kill sends a signal to an environment's process group. An idle environment
// that is sent SIGKILL gets no further invocation.
func (s *Service) Kill(environment string, sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.envs[environment]
	if e == nil || e.pid == 0 {
		return fmt.Errorf("lambdalab: kill environment %s: no such process", environment)
	}
	if err := e.signal(sig); err != nil {
		return fmt.Errorf("lambdalab: kill environment %s: %w", environment, err)
	}
	if sig == syscall.SIGKILL && e.state == Idle {
		e.leaveIdle()
		s.enter(e, Stopping)
	}
	return nil
}

// enter changes an environment's state and tells everyone. It is called with
// the service's mutex held.
func (s *Service) enter(e *environment, state State) {
	e.state = state
	s.broadcast()
	if s.cfg.OnEvent != nil {
		s.cfg.OnEvent(Event{Time: time.Now(), Environment: e.describe()})
	}
}

// broadcast wakes everyone who waits for a change. It is called with the
// service's mutex held.
func (s *Service) broadcast() {
	close(s.changed)
	s.changed = make(chan struct{})
}
