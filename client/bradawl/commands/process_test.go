package commands_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bradawl/bradawl/client/bradawl/commands"
	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/protocol/keyfile"
	"github.com/bradawl/bradawl/server/rendezvous/rendezvoustest"
)

// selfVariable makes the test binary be the command, so that it runs as a process of its own.
const selfVariable = "BRADAWL_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(selfVariable) == "1" {
		_ = os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")
		os.Exit(commands.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	natlab.Main(m)
}

// stage is a lab with a rendezvous and a file with its connection string.
type stage struct {
	t   *testing.T
	lab *natlab.Lab
	rt  *rendezvoustest.Server
	url string
}

func newStage(t *testing.T) *stage {
	t.Helper()
	natlab.Require(t)
	lab, err := natlab.New(natlab.Config{})
	must(t, err)
	t.Cleanup(func() { must(t, lab.Close()) })
	host, err := lab.AddHost("rendezvous")
	must(t, err)
	rt := rendezvoustest.Start(t, host)
	return &stage{t: t, lab: lab, rt: rt, url: secretFile(t, rt.URL())}
}

func secretFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "url")
	must(t, keyfile.Write(name, []byte(text+"\n")))
	return name
}

func (s *stage) behind(name string, nat natlab.NAT) *natlab.Host {
	s.t.Helper()
	site, err := s.lab.AddSite(natlab.SiteConfig{Name: name, NAT: nat, Link: natlab.Link{Delay: 250 * time.Microsecond}})
	must(s.t, err)
	h, err := site.AddHost(name)
	must(s.t, err)
	return h
}

// process is a running command.
type process struct {
	t        *testing.T
	cmd      *exec.Cmd
	in       io.WriteCloser
	out, err *watched
}

// watched is what a process has written so far.
type watched struct {
	pieces chan string
	text   strings.Builder
}

func (w *watched) Write(b []byte) (int, error) {
	w.pieces <- string(b)
	return len(b), nil
}

// until reads on until the text contains part.
func (w *watched) until(t *testing.T, part string) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for !strings.Contains(w.text.String(), part) {
		select {
		case p := <-w.pieces:
			w.text.WriteString(p)
		case <-limit:
			t.Fatalf("no %q in %q", part, w.text.String())
		}
	}
}

// all returns everything; the process has ended.
func (w *watched) all() string {
	for {
		select {
		case p := <-w.pieces:
			w.text.WriteString(p)
		default:
			return w.text.String()
		}
	}
}

// start runs the command inside a host, with the url file of the stage.
func (s *stage) start(h *natlab.Host, args ...string) *process {
	s.t.Helper()
	p := &process{t: s.t, cmd: exec.Command(os.Args[0], append(args, "--url-file", s.url)...),
		out: &watched{pieces: make(chan string, 1<<16)}, err: &watched{pieces: make(chan string, 1<<16)}}
	p.cmd.Env = append(os.Environ(), selfVariable+"=1", "BRADAWL_URL=")
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.err
	var err error
	p.in, err = p.cmd.StdinPipe()
	must(s.t, err)
	must(s.t, h.Start(p.cmd))
	s.t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
	})
	return p
}

// wait returns the exit code.
func (p *process) wait() int {
	p.t.Helper()
	done := make(chan struct{})
	go func() {
		_ = p.cmd.Wait() // the code says it
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(40 * time.Second):
		_ = p.cmd.Process.Kill()
		<-done
		p.t.Fatalf("%v does not end; stderr: %s", p.cmd.Args[1:], p.err.all())
	}
	return p.cmd.ProcessState.ExitCode()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
