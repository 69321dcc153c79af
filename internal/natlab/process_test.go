package natlab_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/bradawl/bradawl/internal/natlab"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestProcessRunsInsideItsHost(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	site := addSite(t, l, natlab.SiteConfig{NAT: natlab.PortRestricted()})
	p, h := listen(t, addHost(t, l, "public")), addHost(t, site, "a")
	cmd, out := role(t, "sender", p.addr.String())
	check(t, h.Start(cmd))
	from, what := p.receive()
	if from.Addr() != site.PublicAddr() {
		t.Errorf("the process's packet comes from %s, want %s", from, site.PublicAddr())
	}
	if what == netns() {
		t.Errorf("the process runs in the test's own namespace %s", what)
	}
	_, _ = out.ReadString(0)
	check(t, cmd.Wait())
}

// dead returns a channel that closes when a process, of whatever parent, has ended.
func dead(t *testing.T, pid int) <-chan struct{} {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	check(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = unix.Close(fd) }()
		for {
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()
	return done
}

func await(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s has not happened after %v", what, patience)
	}
}

func TestCloseKillsProcessesAndTheirChildren(t *testing.T) {
	t.Parallel()
	for name, closeIt := range map[string]func(*natlab.Lab, *natlab.Site, *natlab.Host) error{
		"host": func(_ *natlab.Lab, _ *natlab.Site, h *natlab.Host) error { return h.Close() },
		"site": func(_ *natlab.Lab, s *natlab.Site, _ *natlab.Host) error { return s.Close() },
		"lab":  func(l *natlab.Lab, _ *natlab.Site, _ *natlab.Host) error { return l.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			site := addSite(t, l, natlab.SiteConfig{Link: natlab.Link{Delay: time.Millisecond}})
			h := addHost(t, site, "a")
			cmd, out := role(t, "parent")
			check(t, h.Start(cmd))
			child, err := strconv.Atoi(line(t, out))
			check(t, err)
			gone := dead(t, child)
			check(t, closeIt(l, site, h))
			await(t, "the child's death", gone)
			_ = cmd.Wait()
			if ws := cmd.ProcessState.Sys().(interface{ Signal() unix.Signal }); ws.Signal() != unix.SIGKILL {
				t.Errorf("the process ended with %v, want SIGKILL", cmd.ProcessState)
			}
			if err := h.Do(func() error { return nil }); !errors.Is(err, natlab.ErrClosed) {
				t.Errorf("Do in a closed host: %v, want ErrClosed", err)
			}
			check(t, closeIt(l, site, h)) // again
		})
	}
}

func TestClosingTheLabKillsProcessesOfSelf(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	cmd, out := role(t, "block")
	check(t, l.Self().Start(cmd))
	line(t, out)
	check(t, l.Close())
	_ = cmd.Wait()
	if cmd.ProcessState.Success() {
		t.Errorf("the process ended with %v, want SIGKILL", cmd.ProcessState)
	}
}

func TestDoReturnsToTheNamespaceBefore(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	a, b := addHost(t, l, "a"), addHost(t, l, "b")
	id := func() string {
		s, err := os.Readlink("/proc/thread-self/ns/net")
		check(t, err)
		return s
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := id()
	check(t, a.Do(func() error {
		inA := id()
		check(t, b.Do(func() error {
			if inB := id(); inB == inA || inB == before {
				t.Errorf("host b is in %s, a in %s, the test in %s", inB, inA, before)
			}
			return nil
		}))
		if now := id(); now != inA {
			t.Errorf("back in %s, want %s", now, inA)
		}
		return nil
	}))
	func() {
		defer func() { _ = recover() }()
		_ = a.Do(func() error { panic("in a") })
	}()
	if now := id(); now != before {
		t.Errorf("back in %s after a panic, want %s", now, before)
	}
	if err := a.Do(func() error { return os.ErrPermission }); !errors.Is(err, os.ErrPermission) {
		t.Errorf("Do returned %v, want the function's error", err)
	}
}

func TestOrdinarySocketsReachPublicHosts(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var dialer net.Dialer
	for h := range 2 {
		public := addHost(t, l, fmt.Sprint(h))
		ln, err := public.Listen("tcp", net.JoinHostPort(public.Addr().String(), "0"))
		check(t, err)
		conn, err := dialer.DialContext(ctx, "tcp", ln.Addr().String())
		check(t, err)
		check(t, errors.Join(conn.Close(), ln.Close()))
	}
}

func TestLabsDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
	one, two := newLab(t), newLab(t)
	if one.Prefix().Overlaps(two.Prefix()) {
		t.Fatalf("both labs use %s", one.Prefix())
	}
	for _, l := range []*natlab.Lab{one, two} {
		site := addSite(t, l, natlab.SiteConfig{NAT: natlab.PortRestricted()})
		e, self := listen(t, addHost(t, site, "a")), listen(t, l.Self())
		if from := e.observe(self); from.Addr() != site.PublicAddr() {
			t.Errorf("seen as %s, want %s", from, site.PublicAddr())
		}
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	natlab.Require(t)
	count := func(dir string) int {
		entries, err := os.ReadDir(dir)
		check(t, err)
		return len(entries)
	}
	build := func() {
		l, err := natlab.New(natlab.Config{})
		check(t, err)
		defer func() { check(t, l.Close()) }()
		addHost(t, l, "public")
		for _, link := range []natlab.Link{{}, {Delay: time.Millisecond}} {
			site := addSite(t, l, natlab.SiteConfig{NAT: natlab.FullCone(), Link: link})
			h := addHost(t, site, "a")
			conn, err := h.ListenUDP(netip.AddrPort{})
			check(t, err)
			check(t, conn.Close())
			cmd, out := role(t, "block")
			check(t, h.Start(cmd))
			line(t, out)
			defer func() { _ = cmd.Wait() }() // after the lab is closed, if the site is not
			if link.Delay > 0 {
				check(t, site.Close())
			}
		}
		check(t, l.Close())
	}
	links := func() int {
		names, err := net.Interfaces()
		check(t, err)
		return len(names)
	}
	goroutines := goleak.IgnoreCurrent()
	build()
	fds, threads, ifaces := count("/proc/self/fd"), count("/proc/self/task"), links()
	const times = 10
	for range times {
		build()
	}
	if now := count("/proc/self/fd"); now > fds {
		t.Errorf("%d descriptors after %d more labs, %d before", now, times, fds)
	}
	if now := count("/proc/self/task"); now >= threads+times {
		t.Errorf("%d threads after %d more labs, %d before", now, times, threads)
	}
	if now := links(); now > ifaces {
		t.Errorf("%d links after %d more labs, %d before", now, times, ifaces)
	}
	goleak.VerifyNone(t, goroutines)
}
