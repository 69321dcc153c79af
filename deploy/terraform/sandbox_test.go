package terraform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/server/daemon"
)

// The sandbox is a machine as cloud-init finds it, made of namespaces: a file system that holds this machine's programs
// and is empty elsewhere, and a network of its own. Two commands in it stand in for what is not to be had: aws, for S3 and
// the Parameter Store, and systemctl, for systemd. Both know only the calls that the script has to make. The server is the real one.

// sandboxVariable makes this program the first process of a sandbox; its value is the job as JSON.
const sandboxVariable = "BRADAWL_TEST_SANDBOX"

// serverName is the name under which this program is the server.
const serverName = "bradawl-server"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == serverName {
		os.Exit(daemon.Main(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	if text := os.Getenv(sandboxVariable); text != "" {
		if err := inSandbox(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// job is what a sandbox gets and does.
type job struct {
	Root       string // an empty directory to be the new root
	Script     string // user data
	Archive    string // a file, there under /archive
	Parameters string // a directory, there under /parameters
	Source     string // where the script must look for the archive
}

// outcome is what became of it.
type outcome struct {
	Exit     int
	Said     string // the script's output
	Log      string // the server's
	UDP, TCP map[int]string
	Unit     string // what systemd says about the unit; empty: nothing
	NoVerify string // why it was not asked
	Modes    map[string]string
}

// errNoSandbox says that the kernel lets this user make none.
var errNoSandbox = errors.New("no namespaces")

// sandbox runs a job.
func sandbox(t *testing.T, j job) (outcome, error) {
	t.Helper()
	text, err := json.Marshal(j)
	must(t, err)
	self, err := os.Executable()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = []string{sandboxVariable + "=" + string(text), "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return outcome{}, fmt.Errorf("sandbox: %w: %s", err, exit.Stderr)
	case err != nil:
		return outcome{}, fmt.Errorf("%w: %w", errNoSandbox, err)
	}
	var o outcome
	return o, json.Unmarshal(out, &o)
}

// inSandbox is the first process: when it ends, the kernel ends all others of the sandbox.
func inSandbox(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	if err := newRoot(j); err != nil {
		return fmt.Errorf("make the root: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	said, err := os.Create("/said")
	if err != nil {
		return err
	}
	cmd := exec.Command("/bin/bash", "/user-data")
	cmd.Env = []string{"PATH=/standins:/usr/local/bin:/usr/bin:/bin", "SOURCE=" + j.Source}
	cmd.Stdout, cmd.Stderr = said, said // a file: the server inherits nothing that would have to be waited for
	if err := cmd.Run(); cmd.ProcessState == nil {
		return err
	}
	o := outcome{Exit: cmd.ProcessState.ExitCode(), UDP: map[int]string{}, TCP: map[int]string{}, Modes: map[string]string{}}
	o.Said, o.Log = content("/said"), content("/server.log")
	if o.Exit == 0 {
		for _, port := range []int{3478, 3479} {
			o.UDP[port] = ask("udp", port)
		}
		o.TCP[3478] = ask("tcp", 3478)
		o.Unit, o.NoVerify = verifyUnit()
		for _, name := range []string{"/var/lib/private/bradawl", "/var/lib/private/bradawl/token.key", "/etc/bradawl/server.yaml", "/usr/local/bin/bradawl"} {
			if info, err := os.Stat(name); err == nil {
				o.Modes[name] = info.Mode().String()
			}
		}
	}
	return json.NewEncoder(os.Stdout).Encode(o)
}

func content(name string) string {
	b, _ := os.ReadFile(name) // empty if the script did not come that far
	return string(b)
}

// newRoot makes the file system and moves there.
func newRoot(j job) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", j.Root, "tmpfs", 0, ""); err != nil {
		return err
	}
	in := func(name string) string { return filepath.Join(j.Root, name) }
	for _, dir := range []string{"usr", "dev", "proc", "tmp", "run", "etc/systemd/system", "var/lib", "standins", "parameters"} {
		if err := os.MkdirAll(in(dir), 0o755); err != nil {
			return err
		}
	}
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		if link, err := os.Readlink("/" + name); err == nil {
			if err := os.Symlink(link, in(name)); err != nil {
				return err
			}
		} else if _, err := os.Stat("/" + name); err == nil {
			if err := bind("/"+name, in(name)); err != nil {
				return err
			}
		}
	}
	for from, to := range map[string]string{"/usr": "usr", "/dev": "dev", "/proc": "proc", j.Parameters: "parameters"} {
		if err := bind(from, in(to)); err != nil {
			return err
		}
	}
	if err := unix.Mount("tmpfs", in("usr/local"), "tmpfs", 0, ""); err != nil {
		return err
	}
	if err := os.MkdirAll(in("usr/local/bin"), 0o755); err != nil {
		return err
	}
	archive, err := os.ReadFile(j.Archive)
	if err != nil {
		return err
	}
	for name, text := range map[string]string{"user-data": j.Script, "archive": string(archive), "standins/aws": awsStandIn, "standins/systemctl": systemctlStandIn} {
		if err := os.WriteFile(in(name), []byte(text), 0o755); err != nil {
			return err
		}
	}
	if err := unix.Chroot(j.Root); err != nil {
		return err
	}
	return os.Chdir("/")
}

func bind(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	return unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, "")
}

// ask sends a STUN request and returns the address in the answer, or what went wrong.
func ask(network string, port int) string {
	c, err := net.Dial(network, fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err.Error()
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	tid := [12]byte{byte(port), 1}
	if _, err := c.Write(protocol.AppendBindingRequest(nil, tid)); err != nil {
		return err.Error()
	}
	b := make([]byte, 1500)
	n, err := c.Read(b)
	if err != nil {
		return err.Error()
	}
	r, err := protocol.ParseBindingResponse(b[:n])
	switch {
	case err != nil:
		return err.Error()
	case r.Mapped.String() != c.LocalAddr().String():
		return fmt.Sprintf("the answer says %s to %s", r.Mapped, c.LocalAddr())
	}
	return "ok"
}

// verifyUnit asks systemd's own checker.
func verifyUnit() (said, unable string) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		return "", "systemd-analyze is not there"
	}
	out, err := exec.Command("systemd-analyze", "verify", "--man=no", "/etc/systemd/system/bradawl-server.service").CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%v: %s", err, out), ""
	}
	return string(out), ""
}

// awsStandIn has S3 and the Parameter Store as files. A parameter that Terraform has not made is refused, as the
// server's role would be.
const awsStandIn = `#!/bin/bash
set -euo pipefail
[ "$AWS_DEFAULT_REGION" = eu-west-1 ]
command="$1 $2"; shift 2
case "$command" in
's3 cp')
  [ "$1" = --only-show-errors ] && [ "$2" = "$SOURCE" ]
  cp /archive "$3"
  exit ;;
esac
name='' value='' said=''
while [ $# -gt 0 ]; do
  case "$1" in
  --name) name=$2; shift ;;
  --value) value=$2; shift ;;
  --type) [ "$2" = SecureString ]; shift ;;
  --query) [ "$2" = Parameter.Value ]; shift ;;
  --output) [ "$2" = text ]; shift ;;
  --with-decryption | --overwrite) said="$said $1" ;;
  *) echo "aws: unknown option $1" >&2; exit 252 ;;
  esac
  shift
done
case "$name" in /bradawl/*/*|*..*) exit 254 ;; /bradawl/*) ;; *) exit 254 ;; esac
file="/parameters/${name#/bradawl/}"
[ -f "$file" ] || { echo "aws: $name: AccessDeniedException" >&2; exit 254; }
case "$command$said" in
'ssm get-parameter --with-decryption') cat "$file"; echo ;;
'ssm put-parameter --overwrite') case "$value" in file://*) cat "${value#file://}" >"$file" ;; *) exit 252 ;; esac ;;
*) echo "aws: unknown command $command$said" >&2; exit 252 ;;
esac
`

// systemctlStandIn starts what the unit says, without the hardening, as systemd would start it: with the state directory of
// a dynamic user.
const systemctlStandIn = `#!/bin/bash
set -euo pipefail
case "$*" in
daemon-reload) ;;
'enable --now bradawl-server.service')
  unit=/etc/systemd/system/bradawl-server.service
  start=$(sed -n 's/^ExecStart=//p' "$unit")
  dir=$(sed -n 's/^StateDirectory=//p' "$unit")
  mkdir -p -m 0700 "/var/lib/private/$dir"
  ln -sfn "private/$dir" "/var/lib/$dir"
  env -i STATE_DIRECTORY="/var/lib/$dir" $start >/server.log 2>&1 </dev/null & ;;
*) echo "systemctl: unknown command $*" >&2; exit 64 ;;
esac
`
