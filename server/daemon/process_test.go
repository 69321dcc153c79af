package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/pb"
)

// patience bounds each wait of a test for something that must come.
const patience = 20 * time.Second

// As a child of a test this binary is the daemon.
const (
	childVariable    = "BRADAWL_TEST_CHILD"
	loopbackVariable = "BRADAWL_TEST_LOOPBACK"
)

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "" {
		goleak.VerifyTestMain(m)
		return
	}
	if os.Getenv(loopbackVariable) != "" { // in a network namespace of its own, where it is down at first
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err != nil {
			panic(err)
		}
	}
	os.Exit(Main(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// process is the daemon as a process of its own.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	home   string
	stdout *bufio.Reader
	logs   chan map[string]any // closed at the end of stderr
	stderr *strings.Builder    // complete once logs is closed
}

// launch starts the daemon with nothing in its environment but HOME and what env adds.
func launch(t *testing.T, home string, attr *syscall.SysProcAttr, env []string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, home: home, cmd: exec.Command(self, args...), logs: make(chan map[string]any, 1000), stderr: &strings.Builder{}}
	p.cmd.Env = append([]string{"HOME=" + home, childVariable + "=1"}, env...)
	p.cmd.Dir = home
	p.cmd.SysProcAttr = attr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	errs, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		if attr != nil && os.Getenv("BRADAWL_REQUIRE_NATLAB") == "" {
			t.Skipf("no network namespace: %v; allow it with sysctl kernel.unprivileged_userns_clone=1", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	p.stdout = bufio.NewReader(out)
	go func() {
		defer close(p.logs)
		lines := bufio.NewScanner(errs)
		for lines.Scan() {
			p.stderr.WriteString(lines.Text() + "\n")
			var entry map[string]any
			if json.Unmarshal(lines.Bytes(), &entry) == nil {
				p.logs <- entry
			}
		}
	}()
	return p
}

// ready waits for the line that the daemon prints when it listens.
func (p *process) ready() string {
	p.t.Helper()
	line, err := p.stdout.ReadString('\n')
	if err != nil {
		p.t.Fatalf("the daemon did not start: exit %d, %s", p.wait(), p.stderr)
	}
	return line
}

// logged waits for a message in the log and returns one of its fields.
func (p *process) logged(message, field string) string {
	p.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case entry, ok := <-p.logs:
			if !ok {
				p.t.Fatalf("the log ended without %q: %s", message, p.stderr)
			}
			if entry["msg"] == message {
				s, _ := entry[field].(string)
				return s
			}
		case <-timeout:
			p.t.Fatalf("no %q in the log", message)
		}
	}
}

// wait returns the exit code.
func (p *process) wait() int {
	p.t.Helper()
	for range p.logs { // to the end of stderr, as Wait closes the pipe
	}
	_, _ = io.Copy(io.Discard, p.stdout)
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) terminate() int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	return p.wait()
}

func (p *process) url(dir string) protocol.URL {
	p.t.Helper()
	file := filepath.Join(dir, "url")
	info, err := os.Stat(file)
	if err != nil {
		p.t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		p.t.Errorf("url has mode %v", info.Mode())
	}
	b, err := os.ReadFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	u, err := protocol.ParseURL(strings.TrimSpace(string(b)))
	if err != nil {
		p.t.Fatal(err)
	}
	return u
}

// signIn signs in with a connection string.
func signIn(t *testing.T, u protocol.URL) *quic.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	id, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := quic.DialAddr(ctx, u.Host, identity.DialConfig(id, "server", protocol.ALPNControl, u.Pins...), &quic.Config{EnableDatagrams: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseWithError(0, "") })
	stream, err := conn.OpenStreamSync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	hello := &pb.ClientMessage{Body: &pb.ClientMessage_SignIn{SignIn: &pb.SignIn{Token: u.Token, Group: "g", Name: "n"}}}
	if err := protocol.WriteMessage(stream, hello); err != nil {
		t.Fatal(err)
	}
	var answer pb.ServerMessage
	if err := protocol.ReadMessage(bufio.NewReader(stream), &answer, protocol.MaxServerMessage); err != nil || answer.GetSignedIn() == nil {
		t.Fatalf("sign-in answered with %v, %v", &answer, err)
	}
	return conn
}

func TestStartsWithNoSettingsAtAll(t *testing.T) {
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET} // its default ports may be in use outside
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	home := t.TempDir()
	p := launch(t, home, attr, []string{loopbackVariable + "=1"})
	line := p.ready()
	dir := filepath.Join(home, ".config", "bradawl")
	if !strings.Contains(line, filepath.Join(dir, "url")) {
		t.Errorf("it says %q, not where the connection string is", line)
	}
	if u := p.url(dir); u.Host != "127.0.0.1:3478" || len(u.Pins) != 1 {
		t.Errorf("url is %v", u)
	}
	if at := p.logged("metrics and health", "http"); at != "127.0.0.1:9090" {
		t.Errorf("http at %s", at)
	}
	if at := p.logged("serving", "udp"); !strings.HasSuffix(at, ":3478") {
		t.Errorf("udp at %s", at)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("state directory: %v, %v", info.Mode(), err)
	}
	if code := p.terminate(); code != ExitOK {
		t.Errorf("exit code %d: %s", code, p.stderr)
	}
}

func TestServesPeersMetricsAndHealthAndDrainsOnSIGTERM(t *testing.T) {
	home := t.TempDir()
	p := launch(t, home, nil, []string{"BRADAWL_LOG_LEVEL=debug"}, "--listen=127.0.0.1:0", "--http=127.0.0.1:0", "--state-dir=s")
	said := p.ready()
	u := p.url(filepath.Join(home, "s"))
	base := "http://" + p.logged("metrics and health", "http")
	p.logged("serving", "")
	conn := signIn(t, u)
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ready\n", "/metrics": "\nbradawl_peers 1\n", "/x": "404"} {
		if code, body := get(t, base+path); !strings.Contains(body, want) || (code == http.StatusOK) == (path == "/x") {
			t.Errorf("%s gives %d %q", path, code, body)
		}
	}
	_ = conn.CloseWithError(0, "")
	if code := p.terminate(); code != ExitOK {
		t.Errorf("exit code %d", code)
	}
	if log := p.stderr.String(); strings.Contains(log, u.Token) || strings.Contains(said, u.Token) || !strings.Contains(log, "draining") {
		t.Errorf("the log: %s", log)
	}

	// The keys stay: the same pin, and the old connection string still works.
	again := launch(t, home, nil, nil, "--listen="+u.Host, "--http=off", "--state-dir=s")
	again.ready()
	if pins := again.url(filepath.Join(home, "s")).Pins; pins[0] != u.Pins[0] {
		t.Error("another pin after a restart")
	}
	signIn(t, u)
	if code := again.terminate(); code != ExitOK {
		t.Errorf("exit code %d with a peer signed in", code)
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

func TestPortInUseIsOneClearLine(t *testing.T) {
	home := t.TempDir()
	first := launch(t, home, nil, nil, "--listen=127.0.0.1:0", "--http=127.0.0.1:0", "--state-dir=s")
	first.ready()
	host := first.url(filepath.Join(home, "s")).Host
	web := first.logged("metrics and health", "http")
	for name, args := range map[string][]string{
		"listen":         {"--listen=" + host, "--http=off", "--stun-alternate=off"},
		"stun-alternate": {"--listen=127.0.0.1:0", "--http=off", "--stun-alternate=" + host},
		"http":           {"--listen=127.0.0.1:0", "--http=" + web},
	} {
		second := launch(t, home, nil, nil, append(args, "--state-dir=t")...)
		code := second.wait()
		if line := second.stderr.String(); code != ExitFailure || strings.Count(line, "\n") != 1 ||
			!strings.Contains(line, "is in use") || !strings.Contains(line, "--"+name) {
			t.Errorf("%s: exit code %d, %q", name, code, line)
		}
	}
	if code := first.terminate(); code != ExitOK {
		t.Errorf("exit code %d", code)
	}
}

func TestClientsLearnAtOnceThatAKilledServerIsBack(t *testing.T) {
	home := t.TempDir()
	first := launch(t, home, nil, nil, "--listen=127.0.0.1:0", "--http=off", "--state-dir=s")
	first.ready()
	u := first.url(filepath.Join(home, "s"))
	conn := signIn(t, u)
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	first.wait()
	second := launch(t, home, nil, nil, "--listen="+u.Host, "--http=off", "--state-dir=s")
	second.ready()
	if err := conn.SendDatagram(protocol.ClockRequest{ID: 1}.Append(nil)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-conn.Context().Done():
	case <-time.After(patience):
		t.Fatal("the client still takes its connection for alive")
	}
	var reset *quic.StatelessResetError
	if err := context.Cause(conn.Context()); !errors.As(err, &reset) {
		t.Errorf("the connection ended with %v", err)
	}
	if code := second.terminate(); code != ExitOK {
		t.Errorf("exit code %d", code)
	}
}
