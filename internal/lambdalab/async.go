package lambdalab

import "time"

// enqueue takes an asynchronous invocation into the queue.
func (s *Service) enqueue(inv *invocation) *apiError {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return errServiceClosed()
	}
	select {
	case s.queue <- inv:
		return nil
	default:
		return errThrottled("CallerRateLimitExceeded")
	}
}

// dispatchQueue starts the queued invocations, one after the other, as the
// concurrency limits allow.
func (s *Service) dispatchQueue() {
	for {
		select {
		case inv := <-s.queue:
			if !s.dispatch(inv) {
				return
			}
		case <-s.ctx.Done():
			return
		}
	}
}

// dispatch waits until an invocation may start, and starts it. It returns
// false once the service is closed.
func (s *Service) dispatch(inv *invocation) bool {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if s.takeSlot(inv.fn) == nil {
			break
		}
		select {
		case <-changed:
		case <-s.ctx.Done():
			return false
		}
	}
	go func() {
		defer s.wg.Done()
		if out := s.execute(inv); out.failure != nil && inv.attempt < inv.fn.AsyncRetries {
			s.retry(inv)
		}
	}()
	return true
}

// retry queues an invocation again, under the same request id, after a while.
func (s *Service) retry(failed *invocation) {
	again := newInvocation(failed.fn, failed.payload)
	again.id, again.attempt, again.clientContext = failed.id, failed.attempt+1, failed.clientContext
	timer := time.NewTimer(failed.fn.RetryDelay * time.Duration(again.attempt))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ctx.Done():
		return
	}
	select {
	case s.queue <- again:
	case <-s.ctx.Done():
	}
}
