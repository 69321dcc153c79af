package lambdaclient

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/protocol"
)

// defaultResume bounds the search for the rendezvous after a freeze, as the client's default does that of the first sign-in.
const defaultResume = 10 * time.Second

var errAway = errors.New("the rendezvous does not answer")

// Session is a function's standing with the rendezvous, kept from invocation to invocation of one execution
// environment. Lambda runs one invocation of an environment at a time; within it the methods are safe for
// concurrent use.
type Session struct {
	mu          sync.Mutex
	invocations int
	current     *client.Client
	config      client.Config // what current was made with
	checked     bool          // current was checked in this invocation
}

func newSession() *Session { return &Session{} }

// begin notes that an invocation begins: the environment may have been frozen since the last one.
func (s *Session) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.invocations++
	s.checked = false
}

// Invocations counts the invocations of this environment, the current one included.
func (s *Session) Invocations() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.invocations
}

// ColdStart tells whether this is the environment's first invocation.
func (s *Session) ColdStart() bool { return s.Invocations() == 1 }

// SignIn returns a signed-in client. The client stays with the environment: a later SignIn with the same URL, group,
// name and role returns it again, after making sure, once per invocation, that it survived the freeze and signing in
// anew if it did not; its links to peers may have been lost meanwhile. A SignIn as somebody else
// closes the client before. The session closes the client; the caller must not.
//
// After a freeze it takes no longer than cfg.SignInTimeout, 10 s if that is zero, to find the rendezvous gone: the error
// is server_unreachable then, and a later call tries again. Errors are else those of [client.SignIn] and [client.Client.Resume].
func (s *Session) SignIn(ctx context.Context, cfg client.Config) (*client.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil && sameStanding(s.config, cfg) {
		if s.checked {
			return s.current, nil
		}
		limit := cfg.SignInTimeout
		if limit <= 0 {
			limit = defaultResume
		}
		rctx, cancel := context.WithTimeoutCause(ctx, limit, errAway)
		err := s.current.Resume(rctx)
		cancel()
		if err == nil {
			s.checked = true
			return s.current, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("sign in again after the thaw: %w", err)
		}
		if errors.Is(err, errAway) { // the client goes on trying; its links to peers may live
			return nil, &client.Error{Op: "sign in again after the thaw", Reason: protocol.ReasonServerUnreachable,
				Detail: fmt.Sprintf("no answer within %v", limit)}
		}
		// The client cannot be brought back, for example because its token has expired: start afresh.
	}
	s.drop()
	c, err := client.SignIn(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s.current, s.config, s.checked = c, cfg, true
	return c, nil
}

// sameStanding tells whether two configurations sign in as the same peer at the same place.
func sameStanding(a, b client.Config) bool {
	return a.URL == b.URL && a.Group == b.Group && a.Name == b.Name && a.Role == b.Role
}

// SignOut closes the client, if there is one: peers see their links end, and the name is free. Call it before returning
// from the handler when the next invocation will be somebody else.
func (s *Session) SignOut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop()
}

func (s *Session) drop() {
	if s.current != nil {
		_ = s.current.Close() // nothing can be done about a socket that does not close
		s.current, s.config = nil, client.Config{}
	}
}

// shutdown signs out within the time that ctx gives.
func (s *Session) shutdown(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.SignOut()
	}()
	select {
	case <-done:
	case <-ctx.Done(): // the environment is killed in a moment anyway
	}
}
