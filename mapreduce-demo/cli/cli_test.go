package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/internal/s3lab"
	"github.com/bradawl/bradawl/lambdaclient/exchange"
	"github.com/bradawl/bradawl/mapreduce-demo/report"
)

func TestMain(m *testing.M) {
	s3lab.Child()
	if len(os.Args) > 1 && (os.Args[1] == roleWorker || os.Args[1] == roleRendezvous) {
		os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	if len(os.Args) > 1 && os.Args[1] == roleDemo {
		os.Exit(Main(os.Args[2:], os.Stdout, os.Stderr))
	}
	natlab.Main(m)
}

// roleDemo makes the test program the whole command.
const roleDemo = "demo"

// write makes a file with its directories.
func write(t *testing.T, text string, path ...string) string {
	t.Helper()
	name := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// ownS3 makes the SDK's ordinary configuration point at a server of the test.
func ownS3(t *testing.T, buckets ...string) *s3.Client {
	t.Helper()
	server, err := s3lab.Start(t.Context(), s3lab.Config{Dir: filepath.Join(t.TempDir(), "s3")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	for name, value := range server.Env() {
		t.Setenv(name, value)
	}
	for _, bucket := range buckets {
		if _, err := server.Client().CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket}); err != nil {
			t.Fatal(err)
		}
	}
	return server.Client()
}

func TestBadInputIsOneClearLine(t *testing.T) {
	dir := t.TempDir()
	file := write(t, "some words", dir, "file")
	full := filepath.Dir(write(t, "", dir, "full", "something"))
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	secret := write(t, "", dir, "secret")
	if err := os.Chmod(secret, 0); err != nil {
		t.Fatal(err)
	}
	client := ownS3(t, "full")
	if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("full"), Key: aws.String("out/x"), Body: strings.NewReader("x")}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		args []string
		says string // a part of the message
		code int
		root bool // works for root
	}{
		{name: "unknown flag", args: []string{"--shuffel", "s3"}, says: "--shuffel", code: exitUsage},
		{name: "argument", args: []string{"input"}, says: `"input"`, code: exitUsage},
		{name: "no mappers", args: []string{"--mappers", "0"}, says: "--mappers is 0", code: exitUsage},
		{name: "no number", args: []string{"--reducers", "x"}, says: "--reducers", code: exitUsage},
		{name: "shuffle", args: []string{"--shuffle", "pigeon"}, says: "direct, s3, auto or compare", code: exitUsage},
		{name: "network", args: []string{"--network", "moon"}, says: "auto, nat or loopback", code: exitUsage},
		{name: "concurrency", args: []string{"--concurrency", "5"}, says: "nothing to compare", code: exitUsage},
		{name: "sync", args: []string{"--sync", "soon"}, says: "write-through", code: exitUsage},
		{name: "negative sync", args: []string{"--sync", "-1s"}, says: "duration", code: exitUsage},
		{name: "model", args: []string{"--s3-model", "guessed"}, says: "published", code: exitUsage},
		{name: "memory", args: []string{"--memory", "1"}, says: "128", code: exitUsage},
		{name: "no bucket in the name", args: []string{"--input", "s3:///x"}, says: "names no bucket", code: exitUsage},
		{name: "json without a directory", args: []string{"--json", filepath.Join(dir, "no", "x.json")}, says: filepath.Join(dir, "no"), code: exitUsage},
		{name: "json is a directory", args: []string{"--json", empty}, says: "is a directory", code: exitUsage},
		{name: "missing input", args: []string{"--input", filepath.Join(dir, "none")}, says: "none: no such file", code: exitFailure},
		{name: "empty input", args: []string{"--input", empty}, says: "no file in it", code: exitFailure},
		{name: "unreadable input", args: []string{"--input", secret}, says: "permission denied", code: exitFailure, root: true},
		{name: "missing bucket", args: []string{"--input", "s3://nobody-has-this"}, says: "bucket does not exist", code: exitFailure},
		{name: "empty prefix", args: []string{"--input", "s3://full/none"}, says: "no object", code: exitFailure},
		{name: "missing output bucket", args: []string{"--input", file, "--output", "s3://nobody-has-this/x"}, says: "bucket does not exist", code: exitFailure},
		{name: "full output prefix", args: []string{"--input", file, "--output", "s3://full/out"}, says: "not empty", code: exitFailure},
		{name: "full output", args: []string{"--input", file, "--output", full}, says: "not empty", code: exitFailure},
		{name: "output below a file", args: []string{"--input", file, "--output", filepath.Join(file, "x")}, says: "not a directory", code: exitFailure},
		{name: "output is a file", args: []string{"--input", file, "--output", file}, says: "not a directory", code: exitFailure},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.root && readable(secret) {
				t.Skip("this user reads everything")
			}
			var stdout, stderr bytes.Buffer
			args := test.args
			if !slices.Contains(args, "--network") {
				args = append(args, "--network", "loopback")
			}
			if code := Main(args, &stdout, &stderr); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			lines := strings.Split(strings.TrimSuffix(stderr.String(), "\n"), "\n")
			last := lines[len(lines)-1]
			if !strings.HasPrefix(last, "mapreduce-demo: ") || !strings.Contains(last, test.says) {
				t.Errorf("it says %q, want something with %q", stderr.String(), test.says)
			}
			if strings.Contains(stderr.String(), "goroutine ") || stdout.Len() > 0 {
				t.Errorf("it prints too much: %q and %q", stdout.String(), stderr.String())
			}
		})
	}
}

func readable(file string) bool {
	f, err := os.Open(file)
	if err == nil {
		f.Close()
	}
	return err == nil
}

// run calls the command, which must succeed.
func call(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	if code := Main(args, &out, &err); code != exitOK {
		t.Fatalf("exit code %d: %s", code, err.String())
	}
	return out.String(), err.String()
}

func document(t *testing.T, file string) report.Document {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var d report.Document
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// words reads the parts in a directory, sorted.
func words(t *testing.T, dir string, parts int) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	seen := 0
	for _, name := range names {
		if strings.HasPrefix(filepath.Base(name), "part-") {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, strings.Fields(strings.ReplaceAll(string(text), "\t", "="))...)
			seen++
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if seen != parts || len(entries) != parts+1 {
		t.Errorf("%d parts of %d files in %s, want %d and _SUCCESS", seen, len(entries), dir, parts)
	}
	if _, err := os.Stat(filepath.Join(dir, "_SUCCESS")); err != nil {
		t.Error(err)
	}
	slices.Sort(lines)
	return lines
}

var (
	text      = []string{"One two\nthree TWO", "three three", "4 über\xff4\n"}
	textWords = []string{"4=2", "one=1", "three=3", "two=2", "über=1"}
)

func TestCompareOnEveryNetwork(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"loopback", "nat"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			if network == "nat" {
				natlab.Require(t)
			}
			dir := t.TempDir()
			for i, s := range text {
				write(t, s, dir, "in", string(rune('a'+i)))
			}
			out, file := filepath.Join(dir, "new", "out"), filepath.Join(dir, "result.json")
			stdout, stderr := call(t, "--network", network, "--input", filepath.Join(dir, "in"),
				"--output", out, "--json", file, "--mappers", "3", "--reducers", "2")
			if got := words(t, out, 2); !slices.Equal(got, textWords) {
				t.Errorf("words %q, want %q", got, textWords)
			}
			for _, want := range []string{"6 of 6 direct", "Both outputs are equal", out, "sum, if transfer between functions is free"} {
				if !strings.Contains(stdout, want) {
					t.Errorf("the report lacks %q:\n%s", want, stdout)
				}
			}
			for _, want := range []string{"network: " + network, "direct: reducer 1 has committed", "s3: reducer 0 has committed"} {
				if !strings.Contains(stderr, want) {
					t.Errorf("the progress lacks %q:\n%s", want, stderr)
				}
			}
			d := document(t, file)
			if d.Equal == nil || !*d.Equal || len(d.Runs) != 2 || d.Network != network || d.Output != out || d.Input.Files != 3 {
				t.Fatalf("document %+v", d)
			}
			for _, run := range d.Runs {
				if !run.S3.Equal || run.Emitted != 9 || run.Keys != 5 || run.Usage.GBSeconds <= 0 || run.Failed != 0 {
					t.Errorf("%s run: %+v", run.Mode, run)
				}
			}
			if direct := d.Runs[0]; direct.Mode != exchange.Direct || direct.Links.Direct != 6 || direct.Paths.ShuffleS3.Requests != 0 || direct.Paths.Direct.Requests == 0 {
				t.Errorf("direct run: %+v", direct)
			}
			if s3 := d.Runs[1]; s3.Mode != exchange.S3 || s3.Paths.Direct.Requests != 0 || s3.Paths.ShuffleS3.Requests == 0 {
				t.Errorf("s3 run: %+v", s3)
			}
			// A second run must not mix with the first.
			var o, e bytes.Buffer
			if code := Main([]string{"--network", network, "--input", filepath.Join(dir, "in"), "--output", out}, &o, &e); code != exitFailure || !strings.Contains(e.String(), "not empty") {
				t.Errorf("a second run into the same directory: %d, %s", code, e.String())
			}
		})
	}
}

func TestFromS3ToS3(t *testing.T) {
	client := ownS3(t, "mine")
	for i, s := range text {
		_, err := client.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: aws.String("mine"), Key: aws.String("in/" + string(rune('a'+i))), Body: strings.NewReader(s),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	call(t, "--network", "loopback", "--input", "s3://mine/in/", "--output", "s3://mine/out", "--shuffle", "auto", "--mappers", "2", "--reducers", "2")
	list, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("mine"), Prefix: aws.String("out/")})
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, o := range list.Contents {
		keys = append(keys, aws.ToString(o.Key))
	}
	if want := []string{"out/_SUCCESS", "out/part-00000", "out/part-00001"}; !slices.Equal(keys, want) {
		t.Errorf("objects %q, want %q", keys, want)
	}
	var lines []string
	for _, key := range keys[1:] {
		o, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("mine"), Key: aws.String(key)})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := b.ReadFrom(o.Body); err != nil {
			t.Fatal(err)
		}
		o.Body.Close()
		lines = append(lines, strings.Fields(strings.ReplaceAll(b.String(), "\t", "="))...)
	}
	slices.Sort(lines)
	if !slices.Equal(lines, textWords) {
		t.Errorf("words %q, want %q", lines, textWords)
	}
}

func TestFromS3OutsideOfTheLab(t *testing.T) {
	t.Parallel()
	natlab.Require(t)
	// A machine with its own network, S3 on it, and the command, which puts a lab
	// between itself and that network.
	lab, err := natlab.New(natlab.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Close()
	machine, err := lab.AddHost("machine")
	if err != nil {
		t.Fatal(err)
	}
	server, err := s3lab.Start(t.Context(), s3lab.Config{
		Dir: filepath.Join(t.TempDir(), "s3"), Place: machine, Listen: netip.AddrPortFrom(machine.Addr(), 9000),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client := server.Client()
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("mine")}); err != nil {
		t.Fatal(err)
	}
	_, err = client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("mine"), Key: aws.String("in"), Body: strings.NewReader("a b\na")})
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	var out bytes.Buffer
	cmd := exec.Command(exe, roleDemo, "--network", "nat", "--input", "s3://mine/in", "--output", "s3://mine/out",
		"--shuffle", "direct", "--mappers", "1", "--reducers", "1")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	for name, value := range server.Env() {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := machine.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if !strings.Contains(out.String(), "network: nat") || !strings.Contains(out.String(), "1 of 1 direct") {
		t.Errorf("it says %s", out.String())
	}
	o, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("mine"), Key: aws.String("out/part-00000")})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Body.Close()
	if got, err := io.ReadAll(o.Body); err != nil || string(got) != "a\t2\nb\t1\n" {
		t.Errorf("output %q, %v", got, err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("it left %v in its temporary directory, %v", left, err)
	}
}

func TestHelpNamesEveryFlag(t *testing.T) {
	t.Parallel()
	stdout, _ := call(t, "--help")
	for _, flag := range []string{"--shuffle", "--mappers", "--reducers", "--input", "--output", "--network", "--json"} {
		if !strings.Contains(stdout, flag) {
			t.Errorf("the help lacks %s", flag)
		}
	}
}

func TestTheGoSourceIsFound(t *testing.T) {
	src, err := goSource()
	if err != nil {
		t.Skip(err)
	}
	if _, err := os.Stat(filepath.Join(src, "fmt", "print.go")); err != nil {
		t.Error(err)
	}
}
