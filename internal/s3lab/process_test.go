package s3lab

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestServerDiesWithItsParent(t *testing.T) {
	parent, server := startParent(t)
	fd, err := unix.PidfdOpen(server, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll, int((10 * time.Second).Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n != 1 {
			_ = unix.Kill(server, unix.SIGKILL)
			t.Fatalf("the server outlived its parent: %d, %v", n, err)
		}
		return
	}
}

// lifelineOnly places processes like exec.Cmd itself: without a signal at the
// parent's death.
type lifelineOnly struct{ cmd *exec.Cmd }

func (p *lifelineOnly) Start(cmd *exec.Cmd) error {
	p.cmd = cmd
	return cmd.Start()
}

func TestServerEndsWithItsInput(t *testing.T) {
	place := &lifelineOnly{}
	srv := startServer(t, Config{Place: place})
	if attr := place.cmd.SysProcAttr; attr != nil {
		t.Fatalf("the place was given attributes: %+v", attr)
	}
	srv.proc.end() // closes the pipe and waits: would hang otherwise
	if got := place.cmd.ProcessState.ExitCode(); got != 0 {
		t.Errorf("the server ended with %d", got)
	}
}

func TestSecretsAreNotInTheArguments(t *testing.T) {
	srv := startServer(t, Config{})
	for _, file := range []string{"cmdline", "environ"} {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(srv.PID()) + "/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(srv.Credentials().SecretAccessKey)) {
			t.Errorf("%s holds the secret key", file)
		}
	}
}

func TestStartErrors(t *testing.T) {
	first := startServer(t, Config{})
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"no directory", Config{}, "Config.Dir is empty"},
		{"directory is a file", Config{Dir: file}, "not a directory"},
		{"port in use", Config{Dir: t.TempDir(), Listen: first.Addr()}, "address already in use"},
		{"foreign address", Config{Dir: t.TempDir(), Listen: netip.MustParseAddrPort("192.0.2.1:0")}, "cannot assign requested address"},
		{"unspecified address", Config{Dir: t.TempDir(), Listen: netip.MustParseAddrPort("0.0.0.0:0")}, "name the address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv, err := Start(t.Context(), tt.cfg)
			if err == nil {
				srv.Close()
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want one line with %q", err, tt.want)
			}
		})
	}
}

// stillborn places a process that ends before it is a server.
type stillborn struct{}

func (stillborn) Start(cmd *exec.Cmd) error {
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", "echo no such luck >&2; exit 3"}
	return cmd.Start()
}

func TestEarlyDeathIsReportedWithItsLastLines(t *testing.T) {
	_, err := Start(t.Context(), Config{Dir: t.TempDir(), Place: stillborn{}})
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no such luck") {
		t.Errorf("got %v", err)
	}
}

func TestStatsGivesUpWithItsContext(t *testing.T) {
	srv := startServer(t, Config{})
	pid := srv.PID()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var st unix.Siginfo
	if err := unix.Waitid(unix.P_PID, pid, &st, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := srv.Stats(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
