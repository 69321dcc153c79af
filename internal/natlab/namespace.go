package natlab

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const threadNetns = "/proc/thread-self/ns/net"

// namespace is a network namespace, kept alive by an open file.
type namespace struct {
	file *os.File
	id   string // as in the link /proc/PID/ns/net: "net:[4026531840]"
}

// currentNamespace opens the calling thread's namespace.
func currentNamespace() (*namespace, error) {
	fd, err := unix.Open(threadNetns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("natlab: open %s: %w", threadNetns, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("natlab: stat %s: %w", threadNetns, err)
	}
	return &namespace{file: os.NewFile(uintptr(fd), threadNetns), id: fmt.Sprintf("net:[%d]", st.Ino)}, nil
}

// newNamespace makes a namespace and runs setup in it.
func newNamespace(setup func() error) (*namespace, error) {
	var ns *namespace
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("natlab: make a network namespace: %w", err)
		}
		var err error
		if ns, err = currentNamespace(); err != nil {
			return err
		}
		return setup()
	})
	if err != nil && ns != nil {
		ns.close()
		return nil, err
	}
	return ns, err
}

// owned says whether the namespace belongs to the process's own user namespace, where its
// capabilities count.
func (ns *namespace) owned() bool {
	owner, err := unix.IoctlRetInt(ns.fd(), unix.NS_GET_USERNS)
	if err != nil {
		return false // the owner is further up
	}
	defer func() { _ = unix.Close(owner) }()
	var own, mine unix.Stat_t
	return unix.Fstat(owner, &own) == nil && unix.Stat("/proc/self/ns/user", &mine) == nil &&
		own.Dev == mine.Dev && own.Ino == mine.Ino
}

func (ns *namespace) fd() int { return int(ns.file.Fd()) }

func (ns *namespace) close() { _ = ns.file.Close() }

// do runs fn on the calling goroutine, its thread moved into the namespace.
func (ns *namespace) do(fn func() error) error {
	return onThread(func() error {
		err := unix.Setns(ns.fd(), unix.CLONE_NEWNET)
		if err != nil {
			return fmt.Errorf("natlab: enter a network namespace: %w", err)
		}
		return fn()
	})
}

// onThread locks the goroutine to its thread while fn runs, and afterwards
// takes the thread back to the namespace it was in, even if fn panics or ends the
// goroutine. A thread that cannot go back stays locked, so that the runtime
// ends it together with the goroutine rather than use it for others.
func onThread(fn func() error) (err error) {
	runtime.LockOSThread()
	home, err := unix.Open(threadNetns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("natlab: open %s: %w", threadNetns, err)
	}
	defer func() {
		back := unix.Setns(home, unix.CLONE_NEWNET)
		_ = unix.Close(home)
		if back != nil {
			err = errors.Join(err, fmt.Errorf("natlab: leave a network namespace: %w", back))
			return
		}
		runtime.UnlockOSThread()
	}()
	return fn()
}

// inside runs fn in the namespace with a route netlink handle of it.
func (ns *namespace) inside(fn func(nl *netlink.Handle) error) error {
	return ns.do(func() error {
		nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("natlab: open netlink: %w", err)
		}
		defer nl.Close()
		return fn(nl)
	})
}

// setSysctl writes a value below /proc/sys/net of the calling thread's namespace.
func setSysctl(name, value string) error {
	path := "/proc/sys/net/" + name
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("natlab: open %s: %w", path, err)
	}
	_, err = unix.Write(fd, []byte(value))
	_ = unix.Close(fd)
	if err != nil {
		return fmt.Errorf("natlab: write %q to %s: %w", value, path, err)
	}
	return nil
}

// prepare gives a fresh namespace its loopback and its settings. IPv6 stays off
// on the links until attach6 switches it on: its address detection would chatter.
func prepare(router bool) func() error {
	return func() error {
		settings := [][2]string{{"ipv4/conf/all/rp_filter", "0"}, {"ipv4/conf/default/rp_filter", "0"}}
		if _, err := os.Stat("/proc/sys/net/ipv6"); err == nil {
			settings = append(settings, [2]string{"ipv6/conf/default/disable_ipv6", "1"})
		}
		if router {
			settings = append(settings, [2]string{"ipv4/ip_forward", "1"})
		}
		for _, s := range settings {
			if err := setSysctl(s[0], s[1]); err != nil {
				return err
			}
		}
		return loopbackUp()
	}
}

func loopbackUp() error {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("natlab: open netlink: %w", err)
	}
	defer nl.Close()
	lo, err := nl.LinkByName("lo")
	if err == nil {
		err = nl.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("natlab: bring up the loopback: %w", err)
	}
	return nil
}

// dup returns a second reference, to use while the first may be closed.
func (ns *namespace) dup() (*namespace, error) {
	fd, err := unix.FcntlInt(uintptr(ns.fd()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("natlab: duplicate a namespace's file: %w", err)
	}
	return &namespace{file: os.NewFile(uintptr(fd), ns.id), id: ns.id}, nil
}
