package s3lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// ErrStopped is returned by calls that need a running server when it has been
// killed or closed.
var ErrStopped = errors.New("s3lab: the server is stopped")

// Server is an S3 server in a process of its own. Its methods are safe for
// concurrent use.
type Server struct {
	cfg   Config
	creds aws.Credentials
	addr  netip.AddrPort
	http  *http.Client

	mu   sync.Mutex // guards proc, and serializes starting and stopping
	proc *process   // nil while stopped
}

// Start brings up a server with fresh random credentials and returns once it
// accepts requests. If it dies before that, the error holds the reason and the
// last lines it wrote.
//
// The context bounds the start only. The server runs until Close or Kill, and
// it does not outlive this process.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	if cfg.Dir == "" {
		return nil, errors.New("s3lab: start the server: Config.Dir is empty")
	}
	if cfg.Listen.Addr().IsUnspecified() {
		return nil, fmt.Errorf("s3lab: start the server: Config.Listen is %s: name the address that clients shall use", cfg.Listen)
	}
	if err := cfg.Model.check(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(cfg.Dir) // the server changes its working directory
	if err != nil {
		return nil, fmt.Errorf("s3lab: find the directory %s: %w", cfg.Dir, err)
	}
	cfg.Dir = dir
	s := &Server{
		cfg: cfg,
		creds: aws.Credentials{
			AccessKeyID:     "S3LAB" + rand.Text()[:15],
			SecretAccessKey: rand.Text() + rand.Text()[:14],
			Source:          "s3lab",
		},
		addr: cfg.Listen,
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.MaxIdleConnsPerHost = 64
	transport.DisableCompression = true
	s.http = &http.Client{Transport: transport}
	if err := s.Restart(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Restart starts the server again on the same directory, address and
// credentials, after killing it if it still runs. Its counts begin at zero.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		s.proc.kill()
		s.proc = nil
	}
	proc, err := launch(s.cfg.Place, startWith{
		Dir:       s.cfg.Dir,
		Listen:    s.addr,
		Region:    s.cfg.Region,
		AccessKey: s.creds.AccessKeyID,
		SecretKey: s.creds.SecretAccessKey,
		Model:     s.cfg.Model,
	})
	if err != nil {
		return err
	}
	timer := time.NewTimer(s.cfg.StartTimeout)
	defer timer.Stop()
	select {
	case s.addr = <-proc.ready:
		s.proc = proc
		return nil
	case <-proc.exited:
		proc.end()
		return proc.death(errors.New("before it was ready"))
	case <-timer.C:
		proc.kill()
		return proc.death(fmt.Errorf("it was not ready after %s", s.cfg.StartTimeout))
	case <-ctx.Done():
		proc.kill()
		return fmt.Errorf("s3lab: start the server: %w", context.Cause(ctx))
	}
}

// Kill ends the server by SIGKILL and waits for its end. It can be restarted.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != nil {
		s.proc.kill()
		s.proc = nil
	}
	s.http.CloseIdleConnections()
}

// Close ends the server and waits for its end. The objects stay in
// Config.Dir. Close may be called more than once; it always returns nil.
func (s *Server) Close() error {
	s.Kill()
	return nil
}

// PID returns the process id of the server, or 0 while it is stopped.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return 0
	}
	return s.proc.cmd.Process.Pid
}

// Stats returns the counts of the running process. They are exact for every
// request whose answer has arrived in full. After Kill, the error is
// [ErrStopped]; after another end of the process, it says how that ended.
func (s *Server) Stats(ctx context.Context) (Stats, error) {
	s.mu.Lock()
	proc := s.proc
	s.mu.Unlock()
	if proc == nil {
		return Stats{}, ErrStopped
	}
	return proc.stats(ctx)
}

// Addr returns the address that the server listens on at its place. It stays
// the same over restarts.
func (s *Server) Addr() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Endpoint returns the URL of the server.
func (s *Server) Endpoint() string { return "http://" + s.Addr().String() }

// Region returns the region that requests must be signed for.
func (s *Server) Region() string { return s.cfg.Region }

// Credentials returns the only credentials that the server accepts.
func (s *Server) Credentials() aws.Credentials { return s.creds }

// AWSConfig returns a configuration for S3 clients in this process. Its base
// endpoint is the server, so it is of no use for other services. Clients must
// use path-style addressing; where the endpoint is an IP address, as here,
// the SDK does so by itself.
func (s *Server) AWSConfig() aws.Config {
	return aws.Config{
		Region:       s.cfg.Region,
		Credentials:  credentials.StaticCredentialsProvider{Value: s.creds},
		BaseEndpoint: aws.String(s.Endpoint()),
		HTTPClient:   s.http,
	}
}

// Client returns an S3 client for use in this process.
func (s *Server) Client() *s3.Client {
	return s3.NewFromConfig(s.AWSConfig(), func(o *s3.Options) { o.UsePathStyle = true })
}

// Env returns the environment variables with which the SDK's default
// configuration in another process uses the server. They hold the secret key.
func (s *Server) Env() map[string]string {
	return map[string]string{
		"AWS_ENDPOINT_URL_S3":   s.Endpoint(),
		"AWS_ACCESS_KEY_ID":     s.creds.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY": s.creds.SecretAccessKey,
		"AWS_REGION":            s.cfg.Region,
	}
}
