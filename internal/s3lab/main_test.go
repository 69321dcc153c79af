package s3lab

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/bradawl/bradawl/internal/natlab"
	"go.uber.org/goleak"
)

// parentVariable makes the test binary a parent that starts a server in the
// directory that the variable names, prints its process id and waits.
const parentVariable = "S3LAB_TEST_PARENT"

func TestMain(m *testing.M) {
	Child()
	if dir := os.Getenv(parentVariable); dir != "" {
		actAsParent(dir)
	}
	natlab.Main(leakless{m})
}

// leakless runs tests and fails if they leave goroutines behind.
type leakless struct{ *testing.M }

func (l leakless) Run() int {
	code := l.M.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

func actAsParent(dir string) {
	srv, err := Start(context.Background(), Config{Dir: dir})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(srv.PID())
	select {} // until killed
}

// startServer starts a server for one test.
func startServer(t *testing.T, cfg Config) *Server {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	srv, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	return srv
}

// startParent starts a process that starts a server, and returns both.
func startParent(t *testing.T) (parent *exec.Cmd, server int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent = exec.Command(exe)
	parent.Env = []string{parentVariable + "=" + t.TempDir()}
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = parent.Process.Kill()
		_ = parent.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the parent did not start a server: %v", err)
	}
	if _, err := fmt.Sscan(line, &server); err != nil {
		t.Fatalf("the parent printed %q: %v", line, err)
	}
	return parent, server
}
