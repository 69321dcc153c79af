package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/bradawl/bradawl/internal/lambdalab"
	"github.com/bradawl/bradawl/internal/release/pack"
	"github.com/bradawl/bradawl/lambdaclient/probe"
	"github.com/bradawl/bradawl/server/rendezvous/rendezvoustest"
)

const testVersion = "v0.0.0-test.1"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestReleaseOfThisArchitecture builds once and looks at everything, as a build takes long.
func TestReleaseOfThisArchitecture(t *testing.T) {
	if arch := runtime.GOARCH; arch != "amd64" && arch != "arm64" {
		t.Skipf("there is no release for %s", arch)
	}
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	for _, dir := range []string{one, two} {
		must(t, run(t.Context(), []string{"--version", testVersion, "--arch", runtime.GOARCH, "--out", dir}, io.Discard))
	}
	files, err := os.ReadDir(one)
	must(t, err)
	if len(files) != 4 {
		t.Fatalf("the release has %v", files)
	}
	t.Run("two builds are the same bytes", func(t *testing.T) {
		for _, f := range files {
			a, err := os.ReadFile(filepath.Join(one, f.Name()))
			must(t, err)
			b, err := os.ReadFile(filepath.Join(two, f.Name()))
			must(t, err)
			if !bytes.Equal(a, b) {
				t.Errorf("%s differs", f.Name())
			}
		}
	})
	t.Run("the checksums are those of the files", func(t *testing.T) {
		sums, err := os.ReadFile(filepath.Join(one, sumsName))
		must(t, err)
		for _, f := range files {
			if f.Name() == sumsName {
				continue
			}
			content, err := os.ReadFile(filepath.Join(one, f.Name()))
			must(t, err)
			if !strings.Contains(string(sums), pack.Sum(f.Name(), content)) {
				t.Errorf("%s lacks %s", sumsName, f.Name())
			}
		}
		if n := bytes.Count(sums, []byte("\n")); n != len(files)-1 {
			t.Errorf("%d lines for %d files", n, len(files)-1)
		}
	})
	t.Run("the programs say their version and have no path of this machine", func(t *testing.T) {
		dir := t.TempDir()
		base := "bradawl_" + testVersion + "_linux_" + runtime.GOARCH
		untar(t, filepath.Join(one, base+".tar.gz"), dir)
		for _, name := range []string{"bradawl", "bradawl-server"} {
			says(t, filepath.Join(dir, base, name), name+" version "+testVersion+" "+runtime.Version())
		}
		for _, name := range []string{"LICENSE", "CHANGELOG.md"} {
			if _, err := os.Stat(filepath.Join(dir, base, name)); err != nil {
				t.Error(err)
			}
		}
	})
	for _, name := range []string{"worker", "probe"} {
		t.Run("Lambda's runtime runs the "+name+" of the zip", func(t *testing.T) {
			bootstrap := unzip(t, filepath.Join(one, "bradawl-"+name+"_"+testVersion+"_lambda_"+runtime.GOARCH+".zip"), t.TempDir())
			says(t, bootstrap, "bradawl-"+name+" version "+testVersion+" "+runtime.Version())
			if name == "probe" {
				probes(t, bootstrap)
			} else {
				refusesNonsense(t, bootstrap)
			}
		})
	}
}

// says runs a program with --version.
func says(t *testing.T, file, want string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), file, "--version").Output()
	must(t, err)
	if got := strings.TrimSpace(string(out)); got != want {
		t.Errorf("%s says %q, want %q", filepath.Base(file), got, want)
	}
	content, err := os.ReadFile(file)
	must(t, err)
	here, err := moduleRoot(t.Context())
	must(t, err)
	if bytes.Contains(content, []byte(here+"/")) {
		t.Errorf("%s has %s in it", filepath.Base(file), here)
	}
}

// invoke runs a bootstrap as a Lambda function, on loopback.
func invoke(t *testing.T, bootstrap string, env map[string]string, payload string) *lambda.InvokeOutput {
	t.Helper()
	service, err := lambdalab.New(lambdalab.Config{})
	must(t, err)
	t.Cleanup(func() { must(t, service.Close()) })
	must(t, service.CreateFunction(lambdalab.Function{Name: "f", Command: []string{bootstrap}, Timeout: time.Minute, MemoryMB: 512, Env: env}))
	out, err := lambda.NewFromConfig(service.AWSConfig()).Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f"), Payload: []byte(payload)})
	must(t, err)
	return out
}

func probes(t *testing.T, bootstrap string) {
	rendezvous := rendezvoustest.Start(t, nil)
	out := invoke(t, bootstrap, map[string]string{probe.URLVariable: rendezvous.URL()}, `{"tests": ["mapping"]}`)
	var r probe.Result
	must(t, json.Unmarshal(out.Payload, &r))
	if public, err := netip.ParseAddrPort(r.Public); out.FunctionError != nil || err != nil || !public.Addr().IsLoopback() || r.Invocation != 1 {
		t.Errorf("the probe answers %s", out.Payload)
	}
}

func refusesNonsense(t *testing.T, bootstrap string) {
	out := invoke(t, bootstrap, nil, `{"kind": "dance"}`)
	if out.FunctionError == nil || !strings.Contains(string(out.Payload), `unknown kind of task \"dance\"`) {
		t.Errorf("the worker answers %s", out.Payload)
	}
}

func untar(t *testing.T, file, dir string) {
	t.Helper()
	f, err := os.Open(file)
	must(t, err)
	defer func() { _ = f.Close() }()
	zr, err := gzip.NewReader(f)
	must(t, err)
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		must(t, err)
		content, err := io.ReadAll(tr)
		must(t, err)
		must(t, os.MkdirAll(filepath.Join(dir, path.Dir(h.Name)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, h.Name), content, h.FileInfo().Mode()))
	}
}

// unzip unpacks the only file, bootstrap.
func unzip(t *testing.T, file, dir string) string {
	t.Helper()
	zr, err := zip.OpenReader(file)
	must(t, err)
	defer func() { _ = zr.Close() }()
	if len(zr.File) != 1 || zr.File[0].Name != "bootstrap" {
		t.Fatalf("the zip has %d files, the first %s", len(zr.File), zr.File[0].Name)
	}
	r, err := zr.File[0].Open()
	must(t, err)
	content, err := io.ReadAll(r)
	must(t, err)
	out := filepath.Join(dir, "bootstrap")
	must(t, os.WriteFile(out, content, zr.File[0].Mode()))
	return out
}

func TestWrongOrdersAreRefusedBeforeAnythingIsBuilt(t *testing.T) {
	t.Parallel()
	full := t.TempDir()
	must(t, os.WriteFile(filepath.Join(full, "old"), nil, 0o600))
	for _, tc := range []struct {
		args []string
		says string
	}{
		{[]string{"--out", "x"}, "--version"},
		{[]string{"--version", "1.2.3", "--out", "x"}, "--version"},
		{[]string{"--version", "v1.2.3 -X main.x=y", "--out", "x"}, "--version"},
		{[]string{"--version", "v1.2.3/../..", "--out", "x"}, "--version"},
		{[]string{"--version", "v1.2.3"}, "--out"},
		{[]string{"--version", "v1.2.3", "--out", "x", "--arch", "riscv64"}, "riscv64"},
		{[]string{"--version", "v1.2.3", "--out", "x", "more"}, "more"},
		{[]string{"--version", "v1.2.3", "--out", full}, "not empty"},
	} {
		if err := run(t.Context(), tc.args, io.Discard); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%q: %v", tc.args, err)
		}
	}
}
