package s3lab

import (
	"net/netip"
	"os/exec"
	"time"
)

// Placer says where a process runs. The process must inherit cmd's files and
// environment as (*exec.Cmd).Start would pass them, and must be a child of
// this process, so that cmd.Wait works.
type Placer interface {
	Start(cmd *exec.Cmd) error
}

// Config says how a server is started.
type Config struct {
	// Dir holds the objects. It is made if it does not exist, and it is left
	// in place when the server ends. Required.
	Dir string
	// Listen is the address to listen on, as seen at the server's place; a
	// port of 0 takes any free one. The zero value is 127.0.0.1:0. The
	// unspecified address is refused, since the endpoint is made from it.
	Listen netip.AddrPort
	// Place is where the process runs; nil means right here.
	Place Placer
	// Region is what the server answers to; empty means us-east-1.
	Region string
	// Model is how S3 is imitated beyond its protocol; nil means not at all: the
	// server is as fast as it can, and takes all that comes.
	Model *Model
	// StartTimeout bounds the time until the server is ready; 0 means 20 s.
	StartTimeout time.Duration
}

func (c Config) withDefaults() Config {
	if !c.Listen.IsValid() {
		c.Listen = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	}
	c.Listen = netip.AddrPortFrom(c.Listen.Addr().Unmap(), c.Listen.Port())
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	if c.StartTimeout <= 0 {
		c.StartTimeout = 20 * time.Second
	}
	return c
}
