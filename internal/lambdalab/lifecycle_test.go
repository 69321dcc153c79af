package lambdalab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"golang.org/x/sys/unix"
)

func TestIdleEnvironmentIsReused(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	name := b.function("", Function{})
	first := b.succeed(name, command{})
	for i := 2; i <= 5; i++ {
		if a := b.succeed(name, command{}); a.PID != first.PID || a.Invocations != i {
			t.Errorf("invocation %d was number %d of process %d, want process %d", i, a.Invocations, a.PID, first.PID)
		}
	}
	for i, r := range b.svc.Reports() {
		if cold := r.Init > 0; cold != (i == 0) {
			t.Errorf("report %d: %+v", i, r)
		}
	}
}

// threadStates returns the states of a process's threads.
func threadStates(t *testing.T, pid int) (states string) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		states += string(b[strings.LastIndexByte(string(b), ')')+2])
	}
	return states
}

func TestIdleEnvironmentIsFrozen(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	name := b.function("", Function{})
	for range 3 {
		a := b.succeed(name, command{})
		if states := threadStates(t, a.PID); states == "" || strings.Trim(states, "T") != "" {
			t.Errorf("the threads of an idle environment are in the states %q", states)
		}
		envs := b.svc.Environments()
		if len(envs) != 1 || envs[0].State != Idle || envs[0].PID != a.PID {
			t.Errorf("environments: %+v", envs)
		}
	}
}

func TestEnvironmentsGoThroughTheirStates(t *testing.T) {
	t.Parallel()
	var states []State
	b := newBench(t, Config{OnEvent: func(e Event) { states = append(states, e.Environment.State) }})
	name := b.function("", Function{})
	b.succeed(name, command{})
	b.succeed(name, command{})
	b.svc.Reap(name)
	b.svc.mu.Lock()
	defer b.svc.mu.Unlock()
	want := []State{Starting, Busy, Idle, Busy, Idle, Stopping, Dead}
	if !slices.Equal(states, want) {
		t.Errorf("states %v, want %v", states, want)
	}
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	tests := []struct {
		behaviour string
		want      []string // written while it was shut down
	}{
		{"", nil},
		{"sigterm", []string{"worker: got SIGTERM"}},
		{"sigterm extension", []string{"extension: got SHUTDOWN spindown", "worker: got SIGTERM"}},
	}
	for _, tt := range tests {
		t.Run(tt.behaviour, func(t *testing.T) {
			b := newBench(t, Config{})
			name := b.function(tt.behaviour, Function{})
			b.succeed(name, command{})
			env := b.svc.Environments()[0]
			before := len(b.svc.EnvironmentLogs(env.ID))
			begun := time.Now()
			b.svc.Reap(name)
			took := time.Since(begun)
			if envs := b.svc.Environments(); len(envs) > 0 {
				t.Errorf("environments: %+v", envs)
			}
			if err := syscall.Kill(env.PID, 0); !errors.Is(err, syscall.ESRCH) {
				t.Errorf("the process is still there: %v", err)
			}
			var got []string
			for _, l := range b.svc.EnvironmentLogs(env.ID)[before:] {
				if !strings.Contains(l.Text, "WARNING!") { // aws-lambda-go's
					got = append(got, l.Text)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, tt.want) {
				t.Errorf("it wrote %q, want %q", got, tt.want)
			}
			if tt.want != nil && took < shutdownGrace { // the worker stays until it is killed
				t.Errorf("it was killed after %s", took)
			}
		})
	}
}

func TestExtensionHearsOfInvocations(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	name := b.function("extension", Function{})
	for range 2 {
		a := b.succeed(name, command{})
		var got bool
		for _, l := range b.svc.Logs(a.RequestID) {
			got = got || l.Text == "extension: got INVOKE "+a.RequestID
		}
		if !got {
			t.Errorf("the extension did not hear of %s: %+v", a.RequestID, b.svc.Logs(a.RequestID))
		}
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	for _, behaviour := range []string{"", "sigterm"} {
		t.Run(behaviour, func(t *testing.T) {
			b := newBench(t, Config{})
			name := b.function(behaviour, Function{Timeout: 1250 * time.Millisecond})
			first := b.succeed(name, command{})
			in := withTail(input(name, command{Do: "wait"}))
			out, err := b.client.Invoke(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			report := b.svc.Reports()[1]
			want := fmt.Sprintf(`{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: %s Error: Task timed out after 1.25 seconds"}`, report.RequestID)
			if aws.ToString(out.FunctionError) != "Unhandled" || string(out.Payload) != want {
				t.Errorf("got %s %s, want %s", aws.ToString(out.FunctionError), out.Payload, want)
			}
			if report.BilledMS != 1250 || report.ErrorType != "Sandbox.Timedout" {
				t.Errorf("report %+v", report)
			}
			if a := b.succeed(name, command{}); a.PID == first.PID {
				t.Error("the environment outlived the timeout")
			}
			b.await(func(envs []Environment) bool { return len(envs) == 1 && envs[0].PID != first.PID })
			var warned bool
			for _, l := range b.svc.EnvironmentLogs(report.Environment) {
				warned = warned || l.Text == "worker: got SIGTERM"
			}
			if warned != (behaviour == "sigterm") {
				t.Errorf("SIGTERM before SIGKILL: %t", warned)
			}
		})
	}
}

func TestKilledProcess(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	name := b.function("", Function{})
	t.Run("busy", func(t *testing.T) {
		gate := filepath.Join(t.TempDir(), "gate")
		result := b.inBackground(input(name, command{Do: "meet", Text: gate}))
		env := b.await(inState(Busy, 1))[0]
		if env.RequestID == "" || !strings.Contains(string(env.Payload), gate) {
			t.Errorf("the environment does not tell its invocation: %+v", env)
		}
		awaitWorker(t, gate, env.RequestID)
		if err := b.svc.Kill(env.ID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		out, err := result()
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf(`{"errorType":"Runtime.ExitError","errorMessage":"RequestId: %s Error: Runtime exited with error: signal: killed"}`, env.RequestID)
		if string(out.Payload) != want || aws.ToString(out.FunctionError) != "Unhandled" {
			t.Errorf("got %s, want %s", out.Payload, want)
		}
	})
	t.Run("idle", func(t *testing.T) {
		first := b.succeed(name, command{})
		env := b.svc.Environments()[0]
		if err := b.svc.Kill(env.ID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		// Whether or not the process is dead by now.
		if a := b.succeed(name, command{}); a.PID == first.PID || a.Invocations != 1 {
			t.Errorf("got %+v", a)
		}
		b.await(func(envs []Environment) bool { return len(envs) == 1 })
		if err := b.svc.Kill(env.ID, syscall.SIGKILL); err == nil {
			t.Error("killed an environment that is dead")
		}
	})
}

// awaitWorker waits until the worker has begun with a "meet".
func awaitWorker(t *testing.T, gate, requestID string) {
	t.Helper()
	if err := awaitFile(t.Context(), gate+"."+requestID); err != nil {
		t.Fatal(err)
	}
}

func TestTooMuchMemoryIsDeath(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	name := b.function("", Function{MemoryMB: 200})
	f := b.failure(name, command{Do: "grow", N: 400})
	if f.Type != "Runtime.ExitError" || !strings.HasSuffix(f.Message, "Runtime exited with error: signal: killed") {
		t.Errorf("got %+v", f)
	}
	if r := b.svc.Reports()[0]; r.ErrorType != "Runtime.OutOfMemory" || r.MaxMemoryMB != 200 {
		t.Errorf("report %+v", r)
	}
	b.succeed(name, command{})
	before := b.svc.Reports()[1].MaxMemoryMB
	if before < 5 || before > 200 {
		t.Errorf("an invocation that does little had %d MiB", before)
	}
}

func TestEnvironmentVariables(t *testing.T) {
	t.Setenv("LAMBDALAB_TEST_SECRET", "not for functions")
	b := newBench(t, Config{Region: "eu-west-3"})
	name := b.function("", Function{MemoryMB: 256, Handler: "main.handler", Env: map[string]string{"OWN": "value", "AWS_ACCESS_KEY_ID": "key"}})
	got := make(map[string]string)
	for _, v := range b.succeed(name, command{Do: "env"}).Env {
		k, v, _ := strings.Cut(v, "=")
		got[k] = v
	}
	env := b.svc.Environments()[0]
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"AWS_LAMBDA_FUNCTION_NAME": "worker", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256", "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
		"AWS_LAMBDA_LOG_GROUP_NAME":      "/aws/lambda/worker",
		"AWS_LAMBDA_LOG_STREAM_NAME":     env.Started.UTC().Format("2006/01/02/[$LATEST]") + env.ID,
		"AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand", "AWS_REGION": "eu-west-3", "AWS_DEFAULT_REGION": "eu-west-3",
		"_HANDLER": "main.handler", "LAMBDA_TASK_ROOT": filepath.Dir(exe), "TZ": ":UTC", "OWN": "value", "AWS_ACCESS_KEY_ID": "key",
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %q, want %q", k, got[k], v)
		}
	}
	if _, ok := got["LAMBDALAB_TEST_SECRET"]; ok || got["AWS_LAMBDA_RUNTIME_API"] == "" {
		t.Errorf("the environment is %v", got)
	}
}

func TestEnvironmentHasItsOwnTemporaryDirectory(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	name := b.function("", Function{})
	dir := b.succeed(name, command{Do: "temp", Text: "content"}).Text
	if content, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(content) != "content" {
		t.Errorf("got %q, %v", content, err)
	}
	if again := b.succeed(name, command{Do: "temp"}).Text; again != dir {
		t.Errorf("the directory of a warm environment is %s, was %s", again, dir)
	}
	b.svc.Reap(name)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
	if other := b.succeed(name, command{Do: "temp"}).Text; other == dir {
		t.Error("two environments had the same directory")
	}
}

func TestOpenFilesAreLimited(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	if got := b.succeed(b.function("", Function{}), command{Do: "limits"}).Text; got != "1024 1024" {
		t.Errorf("the limits are %s", got)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	name := b.function("sigterm", Function{})
	gate := filepath.Join(t.TempDir(), "gate")
	busy := b.inBackground(input(name, command{Do: "meet", Text: gate}))
	b.await(inState(Busy, 1))
	b.succeed(name, command{})
	envs := b.await(func(envs []Environment) bool { return inState(Busy, 1)(envs) && inState(Idle, 1)(envs) })
	var fds []unix.PollFd
	for _, e := range envs {
		fd, err := unix.PidfdOpen(e.PID, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	if err := b.svc.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Poll(fds, 0); n != 2 || err != nil {
		t.Errorf("%d of 2 processes have ended (%v)", n, err)
	}
	if out, err := busy(); err == nil && out.FunctionError == nil {
		t.Errorf("the invocation has an answer: %s", out.Payload)
	}
	if err := b.svc.CreateFunction(Function{Name: "late", Command: []string{"/bin/true"}}); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed service took a function: %v", err)
	}
	if err := b.svc.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
}

func TestProgramThatCannotBeStarted(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!/no/such/interpreter\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := b.svc.CreateFunction(Function{Name: "broken", Command: []string{program}}); err != nil {
		t.Fatal(err)
	}
	if f := b.failure("broken", command{}); f.Type != "Runtime.InvalidEntrypoint" || !strings.Contains(f.Message, "no such file") {
		t.Errorf("got %+v", f)
	}
}

func TestFunctionsAreChecked(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{Concurrency: 10})
	good := Function{Name: "good", Command: []string{"true"}, Concurrency: 6}
	if err := b.svc.CreateFunction(good); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		f    Function
		want string
	}{
		{Function{Command: []string{"true"}}, "the name must be"},
		{Function{Name: "a b", Command: []string{"true"}}, "the name must be"},
		{Function{Name: "x"}, "its command is empty"},
		{Function{Name: "x", Command: []string{"/no/such/program"}}, "no such file"},
		{Function{Name: "x", Command: []string{"true"}, Timeout: time.Hour}, "timeout 1h0m0s"},
		{Function{Name: "x", Command: []string{"true"}, MemoryMB: -1}, "negative"},
		{Function{Name: "x", Command: []string{"true"}, Concurrency: 5}, "more than the 4 left"},
		{good, "exists already"},
	}
	for i, tt := range tests {
		err := b.svc.CreateFunction(tt.f)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", strconv.Itoa(i), err, tt.want)
		}
	}
}
