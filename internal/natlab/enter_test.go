package natlab_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/bradawl/bradawl/internal/natlab"
)

// runLabRole has a process enter and make a lab, and returns the namespace that it came to
// and its user there.
func runLabRole(t *testing.T, where *natlab.Host, attr *syscall.SysProcAttr) (namespace, uid string) {
	t.Helper()
	cmd, out := role(t, "lab")
	cmd.SysProcAttr = attr
	check(t, where.Start(cmd))
	said, _ := out.ReadString('\n')
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 42 {
		t.Fatalf("the program ended with %v, want its own status 42; it said %q", cmd.ProcessState, said)
	}
	words := strings.Fields(said)
	if len(words) != 3 {
		t.Fatalf("the program said %q", said)
	}
	return words[0], words[1]
}

func namespaceOf(t *testing.T, h *natlab.Host) (id string) {
	t.Helper()
	check(t, h.Do(func() (err error) {
		id, err = os.Readlink("/proc/thread-self/ns/net")
		return err
	}))
	return id
}

func TestProgramInTheEnteredNamespaceStaysThere(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	if got, _ := runLabRole(t, l.Self(), nil); got != namespaceOf(t, l.Self()) {
		t.Errorf("entered %s, want to stay in %s", got, namespaceOf(t, l.Self()))
	}
}

func TestProgramInAHostEntersItsOwnNamespaces(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	h := addHost(t, l, "a")
	got, uid := runLabRole(t, h, nil)
	if got == namespaceOf(t, h) || got == namespaceOf(t, l.Self()) {
		t.Errorf("entered %s, which is the host's or the test's own", got)
	}
	if uid != "0" {
		t.Errorf("user %s inside, want 0", uid)
	}
}

func TestUnprivilegedUserMakesLabs(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	ids, err := os.ReadFile("/proc/self/uid_map")
	check(t, err)
	if !bytes.Contains(ids, []byte("4294967295")) {
		t.Skip("has no other user to become: the whole test runs unprivileged already")
	}
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	for name, where := range map[string]*natlab.Host{"self": l.Self(), "host": addHost(t, l, "a")} {
		got, uid := runLabRole(t, where, nobody)
		if got == namespaceOf(t, where) || uid != "0" {
			t.Errorf("in %s: entered %s as user %s; want a new namespace, as user 0", name, got, uid)
		}
	}
}

func TestProgramGoesOnWhereTheKernelRefuses(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	cmd, out := role(t, "refused")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	check(t, addHost(t, l, "a").Start(cmd))
	for _, start := range []string{"true ", "true ", "skip: ", "fail: BRADAWL_REQUIRE_NATLAB=1, but "} {
		said := line(t, out)
		if !strings.HasPrefix(said, start+"natlab: network labs are unavailable: ") ||
			!strings.HasSuffix(said, "sysctl user.max_net_namespaces=15000 would allow it") {
			t.Errorf("the program said %q, want %q, the reason and the sysctl", said, start)
		}
	}
	check(t, cmd.Wait())
}

func TestSignalsReachTheProgram(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGUSR1} {
		cmd, out := role(t, "signal")
		check(t, addHost(t, l, "a").Start(cmd)) // so that it has to re-execute itself
		pid, err := strconv.Atoi(strings.TrimPrefix(line(t, out), "ready "))
		check(t, err)
		if pid == cmd.Process.Pid {
			t.Fatal("the program did not re-execute itself")
		}
		check(t, cmd.Process.Signal(sig))
		if said := line(t, out); said != sig.String() {
			t.Errorf("the program got %q, want %q", said, sig)
		}
		if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 7 {
			t.Errorf("the program ended with %v, want its own status 7", cmd.ProcessState)
		}
	}
}

func TestProgramDiesWithTheOneThatEntered(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	cmd, out := role(t, "signal")
	check(t, addHost(t, l, "a").Start(cmd))
	pid, err := strconv.Atoi(strings.TrimPrefix(line(t, out), "ready "))
	check(t, err)
	gone := dead(t, pid)
	check(t, cmd.Process.Kill())
	_ = cmd.Wait()
	await(t, "the program's death", gone)
}

func TestStatusTellsOfADeadlySignal(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	cmd, _ := role(t, "killed")
	check(t, addHost(t, l, "a").Start(cmd))
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 128+9 {
		t.Errorf("the program ended with %v, want status 137", cmd.ProcessState)
	}
}

func TestHintsNameTheForbiddingSettings(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings map[string]string
		want     []string
	}{
		"none":    {nil, nil},
		"allowed": {map[string]string{"kernel/unprivileged_userns_clone": "1", "user/max_user_namespaces": "9"}, nil},
		"debian":  {map[string]string{"kernel/unprivileged_userns_clone": "0"}, []string{"sysctl kernel.unprivileged_userns_clone=1"}},
		"ubuntu": {
			map[string]string{"kernel/apparmor_restrict_unprivileged_userns": "1", "user/max_net_namespaces": "0"},
			[]string{"sysctl kernel.apparmor_restrict_unprivileged_userns=0", "sysctl user.max_net_namespaces=15000"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir() + "/"
			for path, value := range test.settings {
				check(t, os.MkdirAll(filepath.Dir(dir+path), 0o700))
				check(t, os.WriteFile(dir+path, []byte(value+"\n"), 0o600))
			}
			got := natlab.Hints(dir)
			for _, want := range test.want {
				if !strings.Contains(got, want) {
					t.Errorf("hints %q lack %q", got, want)
				}
			}
			if len(test.want) == 0 && got != "" {
				t.Errorf("hints %q, want none", got)
			}
		})
	}
}
