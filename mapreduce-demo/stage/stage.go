package stage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/bradawl/bradawl/internal/lambdalab"
	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/internal/s3lab"
	"github.com/bradawl/bradawl/mapreduce-demo/store"
	"github.com/bradawl/bradawl/mapreduce-demo/task"
)

// Network is what lies between the parts of a stage.
type Network string

// The networks.
const (
	// NAT puts every execution environment behind a NAT of its own. The
	// program must have called natlab.Enter.
	NAT Network = "nat"
	// Loopback has everything on 127.0.0.1.
	Loopback Network = "loopback"
)

// Config says what to set up. Program, Rendezvous and Worker are needed.
type Config struct {
	Network Network
	// Dir is for the data of the servers. It must exist, and is left in place.
	Dir string
	// Program is the file to run, Rendezvous and Worker the arguments by which
	// it calls daemon.Main, with more arguments to follow, and task.Main.
	Program            string
	Rendezvous, Worker []string
	// NATKind is the NAT in front of each execution environment. The zero
	// value is a Linux masquerade without a filter; see natlab.PortRestricted.
	NATKind natlab.NAT
	// Link is the way of each environment to the core of the network.
	Link natlab.Link
	// Concurrency is how many invocations may run at once. 0: 1,000.
	Concurrency int
	// MemoryMB is the function's memory. 0: 1,769, where Lambda gives one whole CPU.
	MemoryMB int
	// Timeout bounds an invocation. 0: 15 minutes.
	Timeout time.Duration
	// S3Model is how S3 is imitated beyond its protocol. Nil: not at all.
	S3Model *s3lab.Model
	// OnTask is told what workers say while they run, one call at a time, with
	// the environment that said it. Nil: nobody listens. It must return quickly.
	OnTask func(environment string, e task.Event)
}

// Bucket is the bucket that exists at the start.
const Bucket = "mapreduce"

// Stage is what was set up. Its methods are safe for concurrent use.
type Stage struct {
	// Lambda is the service, S3 the server, Rendezvous the server of links.
	Lambda     *lambdalab.Service
	S3         *s3lab.Server
	Rendezvous *Rendezvous
	// Store is the bucket, for use in this process.
	Store *store.Store

	cfg   Config
	lab   *natlab.Lab
	lines chan lambdalab.Line
	heard chan struct{}
}

// New sets everything up. Close it.
func New(ctx context.Context, cfg Config) (_ *Stage, err error) {
	if cfg.MemoryMB == 0 {
		cfg.MemoryMB = 1769
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = lambdalab.MaxTimeout
	}
	s := &Stage{cfg: cfg}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	for _, dir := range []string{"s3", "rendezvous", "tmp"} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, dir), 0o700); err != nil {
			return nil, fmt.Errorf("set up the demo's servers: %w", err)
		}
	}
	s3cfg := s3lab.Config{Dir: filepath.Join(cfg.Dir, "s3"), Model: cfg.S3Model}
	lambdaCfg := lambdalab.Config{
		Concurrency: cfg.Concurrency, Dir: filepath.Join(cfg.Dir, "tmp"), OnLine: s.line,
	}
	var place starter = here{}
	addr := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if cfg.Network == NAT {
		if s.lab, err = natlab.New(natlab.Config{}); err != nil {
			return nil, err
		}
		s3host, err := s.lab.AddHost("s3")
		if err != nil {
			return nil, err
		}
		rendezvous, err := s.lab.AddHost("rendezvous")
		if err != nil {
			return nil, err
		}
		s3cfg.Place, s3cfg.Listen = s3host, netip.AddrPortFrom(s3host.Addr(), 9000)
		lambdaCfg.Network = lambdalab.NAT(s.lab, cfg.NATKind, cfg.Link)
		place, addr = rendezvous, rendezvous.Addr()
	}
	if s.S3, err = s3lab.Start(ctx, s3cfg); err != nil {
		return nil, err
	}
	s.Store = store.New(s.S3.Client(), Bucket)
	if err := s.Store.CreateBucket(ctx); err != nil {
		return nil, err
	}
	s.Rendezvous, err = startRendezvous(ctx, rendezvousConfig{
		command: append([]string{cfg.Program}, cfg.Rendezvous...),
		dir:     filepath.Join(cfg.Dir, "rendezvous"), addr: addr, place: place,
	})
	if err != nil {
		return nil, err
	}
	s.lines, s.heard = make(chan lambdalab.Line, 1024), make(chan struct{})
	go s.listen()
	s.Lambda, err = lambdalab.New(lambdaCfg)
	return s, err
}

// AddFunction adds a function that runs the worker.
func (s *Stage) AddFunction(name string) error {
	return s.Lambda.CreateFunction(lambdalab.Function{
		Name:    name,
		Command: append([]string{s.cfg.Program}, s.cfg.Worker...),
		Env:     s.S3.Env(),
		Timeout: s.cfg.Timeout, MemoryMB: s.cfg.MemoryMB,
	})
}

// LambdaClient makes a client of the Lambda service.
func (s *Stage) LambdaClient() *lambda.Client {
	return lambda.NewFromConfig(s.Lambda.AWSConfig())
}

// Site is the site whose NAT an environment sits behind; nil on the loopback
// network and for environments that are gone.
func (s *Stage) Site(environment string) *natlab.Site {
	for _, e := range s.Lambda.Environments() {
		if place, ok := e.Place.(*lambdalab.NATPlace); ok && e.ID == environment {
			return place.Site()
		}
	}
	return nil
}

// line takes a line of a worker's log. The service waits for it to return, so a
// full queue drops lines: they are news, not facts.
func (s *Stage) line(l lambdalab.Line) {
	select {
	case s.lines <- l:
	default:
	}
}

// listen hands the events among the lines on.
func (s *Stage) listen() {
	defer close(s.heard)
	for l := range s.lines {
		if e, ok := task.ParseEvent(l.Text); ok && s.cfg.OnTask != nil {
			s.cfg.OnTask(l.Environment, e)
		}
	}
}

// Close ends all processes and waits for them.
func (s *Stage) Close() error {
	var errs []error
	if s.Lambda != nil {
		errs = append(errs, s.Lambda.Close())
	}
	if s.lines != nil {
		close(s.lines)
		<-s.heard
		s.lines = nil
	}
	if s.Rendezvous != nil {
		s.Rendezvous.Close()
	}
	if s.S3 != nil {
		errs = append(errs, s.S3.Close())
	}
	if s.lab != nil {
		errs = append(errs, s.lab.Close())
	}
	return errors.Join(errs...)
}

// freePort finds a port of 127.0.0.1 that is free for UDP and TCP.
func freePort() (uint16, error) {
	for range 100 {
		u, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return 0, err
		}
		addr := u.LocalAddr().(*net.UDPAddr)
		t, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: addr.IP, Port: addr.Port})
		u.Close()
		if err == nil {
			t.Close()
			return uint16(addr.Port), nil
		}
	}
	return 0, errors.New("no port is free for UDP and TCP")
}
