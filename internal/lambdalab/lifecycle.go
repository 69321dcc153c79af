package lambdalab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// signal sends a signal to the process group. It is called with the service's
// mutex held, under which pid is not 0 only while the process has not been
// waited for.
func (e *environment) signal(sig syscall.Signal) error {
	if e.pid == 0 {
		return os.ErrProcessDone
	}
	return syscall.Kill(-e.pid, sig)
}

// kill ends the process by SIGKILL. It does not wait.
func (e *environment) kill() {
	e.svc.mu.Lock()
	defer e.svc.mu.Unlock()
	e.doomed = true
	if e.state != Stopping && e.state != Dead {
		e.svc.enter(e, Stopping)
	}
	_ = e.signal(syscall.SIGKILL)
}

// awaitInit returns when the environment has asked for its first invocation.
func (e *environment) awaitInit() *functionError {
	timeout := e.svc.cfg.InitTimeout
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-e.ready:
		return nil
	case <-e.exited:
	case <-timer.C:
		e.kill()
		<-e.exited
		return &functionError{Type: errorTimeout, Message: fmt.Sprintf("Task timed out after %.2f seconds", timeout.Seconds())}
	}
	e.svc.mu.Lock()
	defer e.svc.mu.Unlock()
	if e.initErr != nil {
		return e.initErr
	}
	return e.exitError()
}

// exitError describes the end of the process. It is called with the service's
// mutex held once the process has ended.
func (e *environment) exitError() *functionError {
	switch {
	case e.startErr != nil:
		return &functionError{Type: "Runtime.InvalidEntrypoint", Message: e.startErr.Error()}
	case e.exit.Success():
		return &functionError{Type: errorExit, Message: "Runtime exited without providing a reason"}
	}
	// "exit status 1" and "signal: killed" are the words of Lambda too.
	err := &functionError{Type: errorExit, Message: "Runtime exited with error: " + e.exit.String()}
	if e.outOfMemory {
		err.reported = "Runtime.OutOfMemory"
	}
	return err
}

// freezeTimeout bounds the wait for a process to stop. On a busy machine, each
// of its threads has to get its turn first.
const freezeTimeout = 2 * time.Second

// freeze stops the process group and returns when its leader has stopped, or
// has ended.
func (e *environment) freeze(ctx context.Context) {
	e.svc.mu.Lock()
	err := e.signal(syscall.SIGSTOP)
	pid := e.pid
	e.svc.mu.Unlock()
	if err != nil {
		return
	}
	// A stop is not reported through anything that can be waited for with a
	// bound, and somebody else's SIGCONT may undo it before it is seen.
	begun := time.Now()
	for pause := 20 * time.Microsecond; time.Since(begun) < freezeTimeout; pause = min(2*pause, 2*time.Millisecond) {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
		if err != nil && !errors.Is(err, unix.EINTR) || info.Signo != 0 {
			return
		}
		select {
		case <-time.After(pause):
		case <-e.exited:
			return
		case <-ctx.Done():
			return
		}
	}
}

// shutdown ends the environment in Lambda's way and waits until it is gone:
// with an extension registered, the extensions get the SHUTDOWN event and the
// process SIGTERM some time before SIGKILL.
func (e *environment) shutdown(reason string) {
	s := e.svc
	s.mu.Lock()
	graceful := len(e.extensions) > 0
	if graceful {
		deadline := time.Now().Add(shutdownGrace)
		for _, x := range e.extensions {
			x.shutdown(reason, deadline)
		}
		_ = e.signal(syscall.SIGTERM) // delivered before anything else goes on
		_ = e.signal(syscall.SIGCONT)
	}
	s.mu.Unlock()
	if graceful {
		timer := time.NewTimer(shutdownGrace)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-e.exited:
		}
	}
	e.kill()
	<-e.gone
}
