package terraform

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/protocol"
)

// maxUserData is what EC2 takes, in bytes.
const maxUserData = 16 << 10

func userData(t *testing.T, release string) (*module, string) {
	t.Helper()
	m, ctx := planned(t, release)
	return m, ctx.Variables["local"].GetAttr("user_data").AsString()
}

func TestUserDataIsAScriptThatFits(t *testing.T) {
	t.Parallel()
	_, script := userData(t, emptyRelease(t))
	if len(script) > maxUserData || !strings.HasPrefix(script, "#!/bin/bash\n") {
		t.Errorf("%d bytes that begin with %.20q", len(script), script)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-n")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("bash -n: %v, %s", err, out)
	}
	if strings.Contains(script, "bradawl://") {
		t.Error("there is a connection string in it, which everybody on the server could read")
	}
	if unit := readFile(t, "bradawl-server.service"); !strings.Contains(script, "<<'UNIT'\n"+unit+"UNIT\n") {
		t.Error("the unit is not in it as it stands")
	}
}

func TestTheUnitIsHardened(t *testing.T) {
	t.Parallel()
	have := map[string]bool{}
	for line := range strings.Lines(readFile(t, "bradawl-server.service")) {
		have[strings.TrimSpace(line)] = true
	}
	for _, want := range []string{
		"DynamicUser=yes", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict", "ProtectHome=yes", "PrivateDevices=yes", "PrivateTmp=yes",
		"MemoryDenyWriteExecute=yes", "RestrictNamespaces=yes", "SystemCallFilter=@system-service", "StateDirectory=bradawl", "StateDirectoryMode=0700", "UMask=0077",
		"Restart=always", "WantedBy=multi-user.target",
	} {
		if !have[want] {
			t.Errorf("it lacks %s", want)
		}
	}
	if have["User=root"] {
		t.Error("it runs as root")
	}
}

// TestUserDataStartsAServerThatKeepsItsKeysWhenItIsReplaced runs the script on two machines, one after the other.
func TestUserDataStartsAServerThatKeepsItsKeysWhenItIsReplaced(t *testing.T) {
	t.Parallel()
	release := emptyRelease(t)
	archive := filepath.Join(release, "bradawl_"+testVersion+"_linux_arm64.tar.gz")
	writeArchive(t, archive)
	m, script := userData(t, release)
	parameters := t.TempDir()
	for _, name := range keptNames(m) {
		must(t, os.WriteFile(filepath.Join(parameters, name), []byte("unset"), 0o600))
	}
	machine := func() outcome {
		t.Helper()
		o, err := sandbox(t, job{Root: t.TempDir(), Script: script, Archive: archive, Parameters: parameters, Source: "s3://b-release/server.tar.gz"})
		if errors.Is(err, errNoSandbox) && os.Getenv(natlab.RequireVariable) != "1" {
			t.Skipf("user data was not run: %v", err)
		}
		must(t, err)
		return o
	}
	var urls []protocol.URL
	for n := range 2 {
		o := machine()
		if o.Exit != 0 {
			t.Fatalf("machine %d: the script ends with %d\n%s\nthe server's log:\n%s", n, o.Exit, o.Said, o.Log)
		}
		if o.UDP[3478] != "ok" || o.UDP[3479] != "ok" || o.TCP[3478] != "ok" {
			t.Errorf("machine %d answers STUN: UDP %v, TCP %v\n%s", n, o.UDP, o.TCP, o.Log)
		}
		if o.Unit != "" {
			t.Errorf("systemd says about the unit: %s", o.Unit)
		}
		if o.NoVerify != "" {
			t.Logf("the unit was not given to systemd's checker: %s", o.NoVerify)
		}
		want := map[string]string{
			"/var/lib/private/bradawl": "drwx------", "/var/lib/private/bradawl/token.key": "-rw-------",
			"/etc/bradawl/server.yaml": "-rw-r--r--", "/usr/local/bin/bradawl": "-rwxr-xr-x",
		}
		if fmt.Sprint(o.Modes) != fmt.Sprint(want) {
			t.Errorf("modes %v, want %v", o.Modes, want)
		}
		url, err := protocol.ParseURL(strings.TrimSpace(readFile(t, filepath.Join(parameters, "url"))))
		must(t, err)
		if strings.Contains(o.Said+o.Log, url.Token) {
			t.Error("the token is in a log")
		}
		urls = append(urls, url)
	}
	if urls[0].Host != publicIP+":3478" || urls[1].Host != urls[0].Host {
		t.Errorf("the connection strings name %s and %s", urls[0].Host, urls[1].Host)
	}
	if len(urls[0].Pins) != 1 || len(urls[1].Pins) != 1 || urls[0].Pins[0] != urls[1].Pins[0] {
		t.Error("the second machine has another key: connection strings handed out are void")
	}
	t.Log("stood in for, not run: systemd and its hardening, the AWS CLI, S3, Parameter Store, cloud-init")
	t.Run("and not one whose archive is another", func(t *testing.T) {
		must(t, os.WriteFile(archive, []byte("something else"), 0o600))
		if o := machine(); o.Exit == 0 || !strings.Contains(o.Said, "FAILED") || o.Log != "" {
			t.Errorf("the script ends with %d\n%s\n%s", o.Exit, o.Said, o.Log)
		}
	})
}

// writeArchive makes an archive laid out as a release's; this program is both its programs.
func writeArchive(t *testing.T, name string) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	program := readFile(t, self)
	f, err := os.Create(name)
	must(t, err)
	zw, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	must(t, err)
	tw := tar.NewWriter(zw)
	for _, p := range []string{"bradawl", serverName} {
		must(t, tw.WriteHeader(&tar.Header{Name: "bradawl_" + testVersion + "_linux_arm64/" + p, Mode: 0o755, Size: int64(len(program))}))
		_, err = tw.Write([]byte(program))
		must(t, err)
	}
	must(t, tw.Close())
	must(t, zw.Close())
	must(t, f.Close())
}

// TestFormatIsTerraforms uses Terraform where it is installed. It cannot validate or plan: that needs the provider.
func TestFormatIsTerraforms(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("terraform")
	if err != nil {
		t.Skip("terraform is not installed, so the format was not checked; nor were terraform validate, plan and tflint run")
	}
	cmd := exec.CommandContext(t.Context(), program, "fmt", "-check", "-diff", "-recursive", ".")
	cmd.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("terraform fmt: %v\n%s", err, out)
	}
	t.Log("not run, as they need the AWS provider: terraform validate, plan and test, tflint")
}
