package natlab_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/bradawl/bradawl/internal/natlab"
)

// roleVariable makes the test binary another program, which tests start in hosts.
const roleVariable = "NATLAB_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" && os.Getenv("BRADAWL_NATLAB") != "forward" {
		os.Exit(play(role))
	}
	natlab.Main(m)
}

// role returns a command that plays a role, its standard input held open by the test.
func role(t *testing.T, name string, args ...string) (cmd *exec.Cmd, out *bufio.Reader) {
	t.Helper()
	cmd = exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+name)
	cmd.Stderr = os.Stderr
	_, err := cmd.StdinPipe()
	check(t, err)
	pipe, err := cmd.StdoutPipe()
	check(t, err)
	return cmd, bufio.NewReader(pipe)
}

// line reads a line that a process printed.
func line(t *testing.T, out *bufio.Reader) string {
	t.Helper()
	s, err := out.ReadString('\n')
	check(t, err)
	return strings.TrimSuffix(s, "\n")
}

func netns() string {
	id, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return err.Error()
	}
	return id
}

// play is the other programs. Each blocks until its standard input ends, if nothing
// else ends it.
func play(role string) int {
	switch role {
	case "sender": // sends its namespace's name to the address in its argument
		conn, err := net.Dial("udp", os.Args[1])
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Fprint(conn, netns())
		return 0
	case "block":
		fmt.Println("blocking")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0
	case "parent": // has a child of its own
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), roleVariable+"=block")
		stdin, _ := cmd.StdinPipe() // held open beyond this process's life by nobody
		defer func() { _ = stdin.Close() }()
		if err := cmd.Start(); err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println(cmd.Process.Pid)
		_ = cmd.Wait()
		return 0
	case "lab": // enters, and makes a lab with a NAT and a slow link
		if err := natlab.Enter(); err != nil {
			fmt.Println(err)
			return 1
		}
		mapped, err := tryLab()
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println(netns(), os.Getuid(), mapped)
		return 42
	case "signal": // enters, and reports the signal that it gets
		signals := make(chan os.Signal, 1)
		if err := natlab.Enter(); err != nil {
			fmt.Println(err)
			return 1
		}
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGUSR1)
		fmt.Println("ready", os.Getpid())
		fmt.Println(<-signals)
		return 7
	case "killed": // enters, and dies of a signal
		if err := natlab.Enter(); err != nil {
			fmt.Println(err)
			return 1
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "refused": // may not make network namespaces
		const limit = "/proc/sys/user/max_net_namespaces"
		if err := os.WriteFile(limit, []byte("0"), 0); err != nil {
			fmt.Println(err)
			return 1
		}
		err := natlab.Enter()
		fmt.Println(errors.Is(err, natlab.ErrUnavailable), err)
		_, err = natlab.New(natlab.Config{})
		fmt.Println(errors.Is(err, natlab.ErrUnavailable), err)
		_ = os.Unsetenv(natlab.RequireVariable)
		natlab.Require(said{})
		_ = os.Setenv(natlab.RequireVariable, "1")
		natlab.Require(said{})
		return 0
	}
	fmt.Println("unknown role", role)
	return 1
}

// said prints what becomes of a test.
type said struct{}

func (said) Helper()                           {}
func (said) Skipf(format string, args ...any)  { fmt.Printf("skip: "+format+"\n", args...) }
func (said) Fatalf(format string, args ...any) { fmt.Printf("fail: "+format+"\n", args...) }

// tryLab reports how a public host sees a host behind a NAT.
func tryLab() (mapped string, err error) {
	l, err := natlab.New(natlab.Config{})
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	site, err := l.AddSite(natlab.SiteConfig{NAT: natlab.FullCone(), Link: natlab.Link{Delay: 1}})
	if err != nil {
		return "", err
	}
	h, err := site.AddHost("a")
	if err != nil {
		return "", err
	}
	public, err := l.Self().Listen("tcp", net.JoinHostPort(l.Self().Addr().String(), "0"))
	if err != nil {
		return "", err
	}
	defer func() { _ = public.Close() }()
	err = h.Do(func() error {
		conn, err := net.Dial("tcp", public.Addr().String())
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		return "", err
	}
	conn, err := public.Accept()
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if from := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); from != site.PublicAddr() {
		return "", fmt.Errorf("seen as %s, want %s", from, site.PublicAddr())
	}
	return site.PublicAddr().String(), nil
}
