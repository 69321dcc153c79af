package lambdalab

import (
	"context"
	"net"
	"os/exec"
	"syscall"
)

// Network makes places for execution environments. It is called from several
// goroutines at once.
type Network interface {
	// NewPlace makes the place of one environment. The name is that of the
	// environment: unique, and short enough to name a host.
	NewPlace(ctx context.Context, name string) (Place, error)
}

// Place is where the process of one environment runs. A network lab's host is one.
type Place interface {
	// Start starts the process, as cmd.Start does, inside the place. It keeps
	// what is set in cmd.SysProcAttr, the process group above all. It is
	// called on a locked thread that lives as long as the process.
	Start(cmd *exec.Cmd) error
	// Listen opens a listener inside the place for this process to serve.
	Listen(network, address string) (net.Listener, error)
	// Close takes the place away once the process has ended.
	Close() error
}

// Loopback is the [Network] without networks: all environments are plain
// processes on this host.
type Loopback struct{}

// NewPlace implements Network.
func (Loopback) NewPlace(context.Context, string) (Place, error) { return here{}, nil }

type here struct{}

func (here) Start(cmd *exec.Cmd) error {
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // at the end of the calling thread
	return cmd.Start()
}

func (here) Listen(network, address string) (net.Listener, error) {
	return net.Listen(network, address)
}

func (here) Close() error { return nil }
