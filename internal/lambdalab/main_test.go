package lambdalab

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/bradawl/bradawl/internal/natlab"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if behaviour, ok := os.LookupEnv(workerVariable); ok {
		actAsWorker(behaviour)
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

// bench is a service with functions of the worker, and a client.
type bench struct {
	*testing.T
	svc    *Service
	client *lambda.Client
}

func newBench(t *testing.T, cfg Config) *bench {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.InitTimeout == 0 {
		cfg.InitTimeout = time.Minute // busy machines
	}
	svc, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{T: t, svc: svc}
	b.client = lambda.NewFromConfig(svc.AWSConfig(), func(o *lambda.Options) { o.RetryMaxAttempts = 1 })
	t.Cleanup(func() {
		if err := svc.Close(); err != nil {
			t.Error(err)
		}
		if envs := svc.Environments(); len(envs) > 0 {
			t.Errorf("environments after Close: %+v", envs)
		}
		if t.Failed() {
			for _, l := range svc.logs.find(func(Line) bool { return true }) {
				t.Log(l.Time.Format("05.000"), l.Environment, l.Text)
			}
		}
	})
	return b
}

// function adds a function that behaves as the words say.
func (b *bench) function(behaviour string, f Function) string {
	b.Helper()
	if f.Name == "" {
		f.Name = "worker"
	}
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	f.Command = []string{exe}
	f.Env = maps.Clone(f.Env)
	if f.Env == nil {
		f.Env = make(map[string]string)
	}
	f.Env[workerVariable] = behaviour
	if f.Timeout == 0 {
		f.Timeout = time.Minute
	}
	if f.MemoryMB == 0 {
		f.MemoryMB = 512
	}
	if err := b.svc.CreateFunction(f); err != nil {
		b.Fatal(err)
	}
	return f.Name
}

func input(name string, c command) *lambda.InvokeInput {
	payload, err := json.Marshal(c)
	if err != nil {
		panic(err) // a struct of strings and numbers
	}
	return &lambda.InvokeInput{FunctionName: aws.String(name), Payload: payload}
}

// invoke has a function do something and returns what the service answers.
func (b *bench) invoke(name string, c command) *lambda.InvokeOutput {
	b.Helper()
	out, err := b.client.Invoke(b.Context(), input(name, c))
	if err != nil {
		b.Fatal(err)
	}
	return out
}

// succeed is invoke for what must succeed.
func (b *bench) succeed(name string, c command) answer {
	b.Helper()
	return b.read(b.invoke(name, c))
}

func (b *bench) read(out *lambda.InvokeOutput) answer {
	b.Helper()
	if out.FunctionError != nil {
		b.Fatalf("the function failed: %s", out.Payload)
	}
	var a answer
	if err := json.Unmarshal(out.Payload, &a); err != nil {
		b.Fatal(err)
	}
	return a
}

// failure is invoke for what must fail.
func (b *bench) failure(name string, c command) functionError {
	b.Helper()
	out := b.invoke(name, c)
	if aws.ToString(out.FunctionError) != "Unhandled" {
		b.Fatalf("the function did not fail but answered %s (%q)", out.Payload, aws.ToString(out.FunctionError))
	}
	var f functionError
	if err := json.Unmarshal(out.Payload, &f); err != nil {
		b.Fatal(err)
	}
	return f
}

// inBackground starts an invocation and returns a function that waits for it.
func (b *bench) inBackground(in *lambda.InvokeInput) func() (*lambda.InvokeOutput, error) {
	var out *lambda.InvokeOutput
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		out, err = b.client.Invoke(b.Context(), in)
	}()
	return func() (*lambda.InvokeOutput, error) {
		<-done
		return out, err
	}
}

// await waits until the environments are as they should be.
func (b *bench) await(condition func([]Environment) bool) []Environment {
	b.Helper()
	envs, err := b.svc.Await(b.Context(), condition)
	if err != nil {
		b.Fatal(err)
	}
	return envs
}

// inState is the condition that n environments are in a state.
func inState(state State, n int) func([]Environment) bool {
	return func(envs []Environment) bool {
		var got int
		for _, e := range envs {
			if e.State == state {
				got++
			}
		}
		return got == n
	}
}

func withTail(in *lambda.InvokeInput) *lambda.InvokeInput {
	in.LogType = types.LogTypeTail
	return in
}
