package lambdalab

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"syscall"
	"time"
)

// invocation is one call of a function.
type invocation struct {
	id            string
	fn            *function
	payload       []byte
	clientContext string
	traceID       string
	attempt       int // counts the retries of an asynchronous invocation

	// Set before an environment gets it.
	deadline time.Time

	// Guarded by the service's mutex.
	taken       bool // the runtime has it
	responded   bool
	response    []byte
	failure     *functionError
	runtimeDone bool // the runtime has asked for the next one
	finished    bool
	done        chan struct{} // closed when runtime and extensions have finished
}

func newInvocation(fn *function, payload []byte) *invocation {
	return &invocation{
		id: newUUID(), fn: fn, payload: payload,
		traceID: fmt.Sprintf("Root=1-%08x-%s;Parent=%s;Sampled=0", time.Now().Unix(), randomHex(12), randomHex(8)),
		done:    make(chan struct{}),
	}
}

// finish is called with the service's mutex held.
func (i *invocation) finish() {
	if !i.finished {
		i.finished = true
		close(i.done)
	}
}

// outcome is the result of an invocation.
type outcome struct {
	response []byte
	failure  *functionError // nil if the function succeeded
	refusal  *apiError      // not nil if there was no invocation at all
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// newUUID returns a random UUID (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// takeSlot counts an invocation against the concurrency limits, and against
// what Close waits for: the caller starts a goroutine with [Service.execute].
func (s *Service) takeSlot(fn *function) *apiError {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return errServiceClosed()
	}
	if fn.Concurrency > 0 {
		if fn.running >= fn.Concurrency {
			return errThrottled("ReservedFunctionConcurrentInvocationLimitExceeded")
		}
	} else {
		if s.running >= s.cfg.Concurrency-s.reserved {
			return errThrottled("ConcurrentInvocationLimitExceeded")
		}
		s.running++
	}
	fn.running++
	s.wg.Add(1)
	return nil
}

// releaseSlot is called with the service's mutex held.
func (s *Service) releaseSlot(fn *function) {
	fn.running--
	if fn.Concurrency == 0 {
		s.running--
	}
	s.broadcast()
}

// execute runs an invocation whose slot is taken, and releases that.
func (s *Service) execute(inv *invocation) outcome {
	for {
		e, cold, err := s.environmentFor(inv.fn)
		if err != nil {
			s.mu.Lock()
			s.releaseSlot(inv.fn)
			s.mu.Unlock()
			return outcome{refusal: errServiceClosed()}
		}
		if cold {
			if failure := e.awaitInit(); failure != nil {
				return e.failedInit(inv, failure)
			}
		}
		if out, ok := e.invoke(inv, cold); ok {
			return out
		}
		// An idle environment was gone before it got the invocation.
	}
}

// environmentFor returns the idle environment that was used last, or a new one.
func (s *Service) environmentFor(fn *function) (e *environment, cold bool, err error) {
	s.mu.Lock()
	if n := len(fn.idle); n > 0 {
		e = fn.idle[n-1]
		fn.idle = fn.idle[:n-1]
		s.mu.Unlock()
		return e, false, nil
	}
	s.mu.Unlock()
	e, err = s.launch(fn)
	return e, true, err
}

// failedInit ends an invocation whose environment did not come up.
func (e *environment) failedInit(inv *invocation, failure *functionError) outcome {
	s := e.svc
	e.kill()
	<-e.exited
	e.logs.drain()
	took := time.Since(e.created)
	e.logs.begin(inv.id)
	defer e.logs.begin("")
	e.logs.line("START RequestId: " + inv.id + " Version: $LATEST")
	e.logs.line(fmt.Sprintf("INIT_REPORT Init Duration: %.2f ms\tPhase: init\tStatus: error\tError Type: %s", milliseconds(took), failure.reportedType()))
	s.mu.Lock()
	e.initDuration = took
	s.mu.Unlock()
	e.account(inv, true, 0, failure)
	s.mu.Lock()
	s.releaseSlot(inv.fn)
	s.mu.Unlock()
	return outcome{response: failure.payload(inv.id), failure: failure}
}

// invoke has the environment's process run an invocation. It returns false if
// the process had ended before it took that.
func (e *environment) invoke(inv *invocation, cold bool) (outcome, bool) {
	s := e.svc
	if cold {
		e.logs.drain() // what the initialization wrote is not the invocation's
	}
	began := time.Now()
	inv.deadline = began.Add(inv.fn.Timeout)
	e.logs.begin(inv.id)
	s.mu.Lock()
	e.current = inv
	e.invocations++
	s.enter(e, Busy)
	_ = e.signal(syscall.SIGCONT)
	if s.closing { // it was idle when Close looked for busy ones
		_ = e.signal(syscall.SIGKILL)
	}
	for _, x := range e.extensions {
		x.invoke(inv, s.arn(inv.fn.Name))
	}
	s.mu.Unlock()
	e.logs.line("START RequestId: " + inv.id + " Version: $LATEST")
	e.work <- inv

	timer := time.NewTimer(inv.fn.Timeout)
	defer timer.Stop()
	var timedOut, dead bool
	select {
	case <-inv.done:
	case <-timer.C:
		timedOut = true
	case <-e.exited:
		dead = true
	}
	took := time.Since(began)

	s.mu.Lock()
	if dead && !inv.taken {
		e.current = nil
		s.mu.Unlock()
		return outcome{}, false
	}
	var failure *functionError
	switch {
	case inv.responded:
		failure = inv.failure
	case timedOut:
		took = inv.fn.Timeout
		failure = &functionError{Type: errorTimeout, Message: fmt.Sprintf("Task timed out after %.2f seconds", took.Seconds())}
	default:
		failure = e.exitError()
	}
	inv.responded = true // nothing that comes now counts
	graceful := len(e.extensions) > 0
	s.mu.Unlock()

	switch {
	case timedOut:
		if !graceful {
			e.kill()
			<-e.exited
		}
		e.logs.line(fmt.Sprintf("%s %s Task timed out after %.2f seconds", time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), inv.id, inv.fn.Timeout.Seconds()))
	case !dead:
		e.measure()
		e.freeze(s.ctx)
	}
	e.logs.drain()
	if dead && failure != nil && failure.body == nil {
		e.logs.line("RequestId: " + inv.id + " Error: " + failure.Message)
		e.logs.line(failure.Type)
	}
	e.account(inv, cold, took, failure)
	e.logs.begin("")
	e.retire(inv, timedOut || dead)
	if failure != nil {
		return outcome{response: failure.payload(inv.id), failure: failure}, true
	}
	return outcome{response: inv.response}, true
}

// retire makes the environment idle, or ends it, and releases the slot.
func (e *environment) retire(inv *invocation, end bool) {
	s := e.svc
	s.mu.Lock()
	defer s.mu.Unlock()
	e.current = nil
	switch alive := e.state == Busy && e.pid != 0; {
	case alive && end: // with an extension: what it still does is not waited for
		s.enter(e, Stopping)
		s.wg.Go(func() { e.shutdown("timeout") })
	case alive && s.closing:
		s.enter(e, Stopping)
		s.wg.Go(func() { e.shutdown("spindown") })
	case alive:
		inv.fn.idle = append(inv.fn.idle, e)
		s.enter(e, Idle)
	}
	s.releaseSlot(inv.fn)
}

// account writes the last lines of the invocation's log and its report.
func (e *environment) account(inv *invocation, cold bool, took time.Duration, failure *functionError) {
	s := e.svc
	s.mu.Lock()
	r := Report{
		Function: inv.fn.Name, RequestID: inv.id, Environment: e.id,
		Start: time.Now().Add(-took), Duration: took,
		MemoryMB: inv.fn.MemoryMB, MaxMemoryMB: e.maxMemoryMB,
	}
	if cold {
		r.Init = e.initDuration
		r.Start = r.Start.Add(-r.Init)
	}
	if failure != nil {
		r.ErrorType = failure.reportedType()
	}
	r.BilledMS = billed(r.Init + r.Duration)
	s.reports = append(s.reports, r)
	s.mu.Unlock()
	e.logs.line("END RequestId: " + inv.id)
	e.logs.line(r.line())
}
