package stage

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/internal/s3lab"
	"github.com/bradawl/bradawl/mapreduce-demo/task"
	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/server/daemon"
)

func TestMain(m *testing.M) {
	s3lab.Child()
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "worker":
			task.Main()
		case "rendezvous":
			os.Exit(daemon.Main(context.Background(), os.Args[2:], os.Stdout, os.Stderr))
		case "broken":
			os.Exit(3)
		}
	}
	natlab.Main(m)
}

func newStage(t *testing.T, network Network, rendezvous string) (*Stage, error) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(t.Context(), Config{
		Network: network, Dir: t.TempDir(), Program: exe,
		Rendezvous: []string{rendezvous}, Worker: []string{"worker"}, NATKind: natlab.PortRestricted(),
	})
	if err == nil {
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
	return s, err
}

func TestTheRendezvousComesBackAtItsAddressWithItsKeys(t *testing.T) {
	for _, network := range []Network{Loopback, NAT} {
		t.Run(string(network), func(t *testing.T) {
			if network == NAT {
				natlab.Require(t)
			}
			s, err := newStage(t, network, "rendezvous")
			if err != nil {
				t.Fatal(err)
			}
			url, err := s.Rendezvous.URL("group", time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				c, err := client.SignIn(t.Context(), client.Config{URL: string(url), Group: "group", Name: "any"})
				if err != nil {
					t.Fatal(err)
				}
				c.Close()
				s.Rendezvous.Kill()
				if err := s.Rendezvous.Restart(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			_, err = client.SignIn(t.Context(), client.Config{URL: string(url), Group: "other", Name: "any"})
			if client.ReasonOf(err) != protocol.ReasonUnauthorized {
				t.Errorf("the token opens another group: %v", err)
			}
		})
	}
}

func TestARendezvousThatDoesNotStartIsReported(t *testing.T) {
	_, err := newStage(t, Loopback, "broken")
	if err == nil || !strings.Contains(err.Error(), "rendezvous") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("error %v", err)
	}
}

func TestAStageWithoutADirectoryIsReported(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), Config{Network: Loopback, Dir: file}); err == nil {
		t.Error("no error")
	}
}
