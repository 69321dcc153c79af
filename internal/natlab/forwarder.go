package natlab

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/bradawl/bradawl/internal/natlab/forward"
	"golang.org/x/sys/unix"
)

// forwardStage is the stage of a lab's forwarder process; see stageVariable.
const forwardStage = "forward"

const forwarderName = "natlab-forward"

// forwarder is a lab's process that carries packets late, in a namespace of its own.
type forwarder struct {
	ns     *namespace
	cmd    *exec.Cmd
	client *forward.Client
}

// startForwarder returns the lab's forwarder, and starts it for the first link that needs it.
func (l *Lab) startForwarder() (*forwarder, error) {
	l.forwarding.Lock()
	defer l.forwarding.Unlock()
	if l.forwarder != nil {
		return l.forwarder, nil
	}
	ns, err := newNamespace(prepare(false))
	if err != nil {
		return nil, err
	}
	// With the program's own arguments and environment it comes by the same way to Enter.
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = forwarderName
	cmd.Env = append(os.Environ(), stageVariable+"="+forwardStage)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	in, err := cmd.StdinPipe()
	if err == nil {
		out, err2 := cmd.StdoutPipe()
		if err = err2; err == nil {
			l.forwarder = &forwarder{ns: ns, cmd: cmd, client: forward.NewClient(in, out)}
			err = l.spawner.run(func() error { return ns.do(cmd.Start) })
		}
	}
	if err != nil {
		l.forwarder = nil
		ns.close()
		return nil, fmt.Errorf("natlab: start the packet forwarder: %w", err)
	}
	return l.forwarder, nil
}

// reap waits for the forwarder, which the spawner's end has killed.
func (f *forwarder) reap() {
	_ = f.cmd.Wait()
	f.ns.close()
}

// runForwarder is the forwarder's process. It does not return.
func runForwarder() {
	setProcessName(forwarderName)
	// A key that interrupts the program must not cut the network under its shutdown.
	signal.Ignore(unix.SIGINT, unix.SIGQUIT, unix.SIGHUP)
	if err := forward.Serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, forwarderName+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}
