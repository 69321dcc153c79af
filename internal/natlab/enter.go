package natlab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// stageVariable tells a process where it stands:
//
//	enter NETNS   started by Enter from the namespace NETNS, to be in a new one
//	in NETNS      has entered NETNS, and may make labs while it is there
//	failed WHY    Enter failed, and why
//	forward       is the packet forwarder of a lab
//
// It is inherited, so NETNS is compared with the process's own: a program started in a
// host of a lab finds another one, and enters namespaces of its own.
const stageVariable = "BRADAWL_NATLAB"

// statusFile is the descriptor on which the re-executed process says "ok", or why not.
const statusFile = 3

// Enter moves the program into namespaces where labs can be made. It must come first in
// main or TestMain, or at least before anything that should not happen twice: it re-executes
// the program, with the same arguments, in new network and mount namespaces, and as an
// unprivileged user in a user namespace too, where it is root. It then forwards
// signals to it and exits with its status (128+n if signal n killed it), so it does not
// return; in the re-executed program it returns nil. A lab's packet forwarder is the
// same program too, and goes no further than Enter.
//
// A program that was started from within such namespaces, by one that has entered, stays
// where it is and shares them; one started in a lab's host enters anew.
//
// Where the kernel refuses, Enter returns an error that wraps [ErrUnavailable] and
// tells the reason, and the program goes on where it was.
func Enter() error {
	stage, detail, _ := strings.Cut(os.Getenv(stageVariable), " ")
	if stage == forwardStage {
		runForwarder()
	}
	here, err := currentNamespace()
	if err != nil {
		return unavailable(err)
	}
	owned := here.owned()
	here.close()
	switch {
	case stage == "enter" && detail != here.id:
		return arrive(here.id)
	case stage == "in" && detail == here.id && capable() && owned:
		return nil
	}
	err = leave(here.id)
	_ = os.Setenv(stageVariable, "failed "+err.Error())
	return err
}

// entered says whether this process may make labs in the namespace.
func entered(id string) error {
	stage, detail, _ := strings.Cut(os.Getenv(stageVariable), " ")
	switch {
	case stage == "in" && detail == id:
		return nil
	case stage == "failed":
		return &unavailableError{text: strings.TrimPrefix(detail, ErrUnavailable.Error()+": ")}
	}
	return unavailable(errors.New("natlab.Enter was not called at the start of the program"))
}

// capable says whether the process can make and configure network namespaces here.
func capable() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	const need = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW
	return data[0].Effective&need == need
}

// leave re-executes the program. It returns only if that fails.
func leave(here string) error {
	// The parent-death signal fires when this thread ends: keep it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	privileged := capable()
	err := reexec(here, privileged)
	if privileged && errors.Is(err, syscall.EPERM) {
		err = reexec(here, false) // root in a container that forbids it: as anybody may
	}
	return unavailable(err)
}

func reexec(here string, privileged bool) error {
	status, report, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = status.Close() }()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), stageVariable+"=enter "+here)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{report}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if !privileged {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2)
	defer signal.Stop(signals)
	err = cmd.Start()
	_ = report.Close()
	if err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	done := make(chan struct{})
	go func() { // ends with the process, or below
		for {
			select {
			case s := <-signals:
				if !fromTerminal(s) {
					_ = cmd.Process.Signal(s)
				}
			case <-done:
				return
			}
		}
	}()
	said, _ := io.ReadAll(io.LimitReader(status, 4096))
	err = cmd.Wait()
	close(done)
	state := cmd.ProcessState
	if string(said) != "ok" {
		if len(said) == 0 {
			said = []byte(fmt.Sprintf("the re-executed program ended early (%v)", state))
		}
		return errors.New(string(said))
	}
	if state == nil {
		return fmt.Errorf("wait for the re-executed program: %w", err)
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		os.Exit(128 + int(ws.Signal()))
	}
	os.Exit(state.ExitCode())
	return nil
}

// fromTerminal guesses whether the terminal sent a signal, by a key. It then went
// to the whole foreground process group, so that the re-executed program has it already.
func fromTerminal(s os.Signal) bool {
	if s != unix.SIGINT && s != unix.SIGQUIT && s != unix.SIGHUP {
		return false
	}
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer func() { _ = tty.Close() }()
	foreground, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && foreground == unix.Getpgrp()
}

// arrive finishes the move in the re-executed program. If it cannot, the program ends
// here, and the one that started it goes on.
func arrive(here string) error {
	setProcessName(os.Args[0])
	report := os.NewFile(statusFile, "natlab status")
	if err := furnish(); err != nil {
		_, _ = io.WriteString(report, err.Error())
		os.Exit(1)
	}
	if err := os.Setenv(stageVariable, "in "+here); err != nil {
		_, _ = io.WriteString(report, err.Error())
		os.Exit(1)
	}
	_, err := io.WriteString(report, "ok")
	return errors.Join(err, report.Close())
}

// setProcessName gives the process, which was started as /proc/self/exe, a name that
// tells people more than "exe". It matters to nothing else, so errors do not.
func setProcessName(path string) {
	_ = os.WriteFile("/proc/self/comm", []byte(filepath.Base(path)), 0)
}

// furnish prepares the new namespaces, and tries what a lab will need.
func furnish() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	trial, err := newNamespace(func() error {
		if err := prepare(true)(); err != nil {
			return err
		}
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		r := &ruleset{conn: conn, table: conn.AddTable(natTable())}
		r.chain("snat", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource)
		if err := conn.Flush(); err != nil {
			return fmt.Errorf("load NAT rules into nftables: %w", err)
		}
		return nil
	})
	if err == nil {
		trial.close()
	}
	return err
}
