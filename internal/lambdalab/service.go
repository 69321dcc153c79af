package lambdalab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// account is the account that the service claims to be of.
const account = "123456789012"

// ErrClosed is returned by calls to a closed service.
var ErrClosed = errors.New("lambdalab: the service is closed")

// Service is a local Lambda service. Its methods are safe for concurrent use.
type Service struct {
	cfg   Config
	creds aws.Credentials
	addr  netip.AddrPort
	dir   string // temporary directories of the environments

	ctx    context.Context // ends when Close begins
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // everything the service has started
	api    *http.Server
	client *http.Client // for AWSConfig
	queue  chan *invocation
	logs   *logStore

	mu        sync.Mutex
	closing   bool
	changed   chan struct{} // closed and replaced at every change
	functions map[string]*function
	envs      map[string]*environment // those that are not dead
	running   int                     // invocations of functions without a limit of their own
	reserved  int                     // sum of the functions' own limits
	reports   []Report
}

// function is a Function and what it has at the moment, guarded by the
// service's mutex.
type function struct {
	Function
	running int
	idle    []*environment // the most recently used last
}

// New starts a service.
func New(cfg Config) (*Service, error) {
	cfg = cfg.withDefaults()
	ln, err := net.Listen("tcp", cfg.Listen.String())
	if err != nil {
		return nil, fmt.Errorf("lambdalab: start the service: %w", err)
	}
	dir, err := os.MkdirTemp(cfg.Dir, "lambdalab-")
	if err != nil {
		ln.Close()
		return nil, fmt.Errorf("lambdalab: start the service: %w", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.MaxIdleConnsPerHost = 64
	s := &Service{
		cfg:  cfg,
		addr: ln.Addr().(*net.TCPAddr).AddrPort(),
		dir:  dir,
		creds: aws.Credentials{
			AccessKeyID:     "LAMBDALAB" + rand.Text()[:11],
			SecretAccessKey: rand.Text() + rand.Text()[:14],
			Source:          "lambdalab",
		},
		ctx: ctx, cancel: cancel,
		client:    &http.Client{Transport: transport},
		queue:     make(chan *invocation, cfg.Queue),
		logs:      newLogStore(cfg.LogBytes, cfg.OnLine),
		changed:   make(chan struct{}),
		functions: make(map[string]*function),
		envs:      make(map[string]*environment),
	}
	s.api = &http.Server{Handler: s.routes(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: discardLog()}
	s.wg.Go(func() { _ = s.api.Serve(ln) })
	s.wg.Go(s.dispatchQueue)
	s.wg.Go(s.watchMemory)
	return s, nil
}

// CreateFunction adds a function. Names are unique.
func (s *Service) CreateFunction(f Function) error {
	f, err := f.checked()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return ErrClosed
	}
	if s.functions[f.Name] != nil {
		return fmt.Errorf("lambdalab: create function %s: it exists already", f.Name)
	}
	if s.reserved+f.Concurrency > s.cfg.Concurrency {
		return fmt.Errorf("lambdalab: create function %s: its limit of %d invocations is more than the %d left of the account's",
			f.Name, f.Concurrency, s.cfg.Concurrency-s.reserved)
	}
	s.reserved += f.Concurrency
	s.functions[f.Name] = &function{Function: f}
	return nil
}

// Endpoint returns the URL of the Invoke API.
func (s *Service) Endpoint() string { return "http://" + s.addr.String() }

// Region returns the region that requests must be signed for.
func (s *Service) Region() string { return s.cfg.Region }

// Credentials returns the only credentials that the Invoke API accepts.
func (s *Service) Credentials() aws.Credentials { return s.creds }

// AWSConfig returns a configuration for Lambda clients in this process. Its
// base endpoint is the service, so it is of no use for other services.
func (s *Service) AWSConfig() aws.Config {
	return aws.Config{
		Region:       s.cfg.Region,
		Credentials:  credentials.StaticCredentialsProvider{Value: s.creds},
		BaseEndpoint: aws.String(s.Endpoint()),
		HTTPClient:   s.client,
	}
}

// arn returns a function's ARN.
func (s *Service) arn(name string) string {
	return fmt.Sprintf("arn:aws:lambda:%s:%s:function:%s", s.cfg.Region, account, name)
}

// Reap ends the idle environments of a function, or of all functions if the
// name is empty, and returns when they are gone.
func (s *Service) Reap(function string) {
	s.mu.Lock()
	var ended sync.WaitGroup
	for name, fn := range s.functions {
		if function != "" && function != name {
			continue
		}
		for _, e := range fn.idle {
			s.enter(e, Stopping)
			ended.Go(func() { e.shutdown("spindown") })
		}
		fn.idle = nil
	}
	s.mu.Unlock()
	ended.Wait()
}

// Close ends the service: environments with an invocation are killed, idle
// ones are shut down, queued invocations are dropped. It returns when every
// process has ended. Further calls wait for the first one and return nil.
func (s *Service) Close() error {
	s.mu.Lock()
	first := !s.closing
	s.closing = true
	var busy []*environment
	for _, e := range s.envs {
		if e.state != Idle && e.state != Stopping {
			busy = append(busy, e)
		}
	}
	s.broadcast()
	s.mu.Unlock()
	s.cancel(ErrClosed)
	for _, e := range busy {
		e.kill()
	}
	s.Reap("")
	err := s.api.Close()
	s.wg.Wait()
	s.client.CloseIdleConnections()
	err = errors.Join(err, os.RemoveAll(s.dir))
	if !first || err == nil {
		return nil
	}
	return fmt.Errorf("lambdalab: close the service: %w", err)
}
