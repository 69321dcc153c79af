package lambdalab

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

func TestFunctionIsInvoked(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	name := b.function("", Function{Timeout: 5 * time.Second})
	in := input(name, command{Text: "hello"})
	in.ClientContext = aws.String(base64.StdEncoding.EncodeToString([]byte(`{"client":{"app_title":"an app"}}`)))
	before := time.Now()
	out, err := b.client.Invoke(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if out.StatusCode != http.StatusOK || aws.ToString(out.ExecutedVersion) != "$LATEST" || out.LogResult != nil {
		t.Errorf("got %+v", out)
	}
	a := b.read(out)
	if a.Text != "hello" || a.Client != "an app" || len(a.RequestID) != 36 {
		t.Errorf("got %+v", a)
	}
	if want := "arn:aws:lambda:us-east-1:123456789012:function:worker"; a.ARN != want {
		t.Errorf("the function's ARN is %s", a.ARN)
	}
	if left := a.Deadline.Sub(before); left < 5*time.Second-2*time.Millisecond || left > 15*time.Second {
		t.Errorf("the deadline was %s after the call", left)
	}
}

func TestFunctionIsFoundByItsNames(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	b.function("", Function{})
	for _, name := range []string{
		"worker", "worker:$LATEST", "123456789012:function:worker",
		"arn:aws:lambda:us-east-1:123456789012:function:worker",
		"arn:aws:lambda:us-east-1:123456789012:function:worker:$LATEST",
	} {
		if a := b.succeed(name, command{Text: name}); a.Text != name {
			t.Errorf("%s answered %q", name, a.Text)
		}
	}
	c, err := b.client.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: aws.String("worker")})
	if err != nil {
		t.Fatal(err)
	}
	if *c.Timeout != 60 || *c.MemorySize != 512 || c.State != types.StateActive {
		t.Errorf("got %+v", c)
	}
	f, err := b.client.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("worker")})
	if err != nil {
		t.Fatal(err)
	}
	if *f.Configuration.FunctionArn != "arn:aws:lambda:us-east-1:123456789012:function:worker" {
		t.Errorf("got %+v", f.Configuration)
	}
}

func TestRequestsAreRefusedAsByLambda(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	b.function("", Function{})
	payload := func(n int) []byte { return []byte(`"` + strings.Repeat("x", n-2) + `"`) }
	tests := []struct {
		name   string
		in     lambda.InvokeInput
		status int
		target any
	}{
		{"unknown function", lambda.InvokeInput{FunctionName: aws.String("other")}, 404, new(*types.ResourceNotFoundException)},
		{"unknown version", lambda.InvokeInput{FunctionName: aws.String("worker"), Qualifier: aws.String("7")}, 404, new(*types.ResourceNotFoundException)},
		{"malformed payload", lambda.InvokeInput{FunctionName: aws.String("worker"), Payload: []byte("{")}, 400, new(*types.InvalidRequestContentException)},
		{"malformed context", lambda.InvokeInput{FunctionName: aws.String("worker"), ClientContext: aws.String("e30")}, 400, new(*types.InvalidRequestContentException)},
		{"large payload", lambda.InvokeInput{FunctionName: aws.String("worker"), Payload: payload(6<<20 + 1)}, 413, new(*types.RequestTooLargeException)},
		{"large event", lambda.InvokeInput{FunctionName: aws.String("worker"), Payload: payload(1<<20 + 1), InvocationType: types.InvocationTypeEvent}, 413, new(*types.RequestTooLargeException)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := b.client.Invoke(t.Context(), &tt.in)
			var resp interface{ HTTPStatusCode() int }
			if !errors.As(err, tt.target) || !errors.As(err, &resp) || resp.HTTPStatusCode() != tt.status {
				t.Errorf("got %v, want status %d and %T", err, tt.status, tt.target)
			}
		})
	}
	if envs := b.svc.Environments(); len(envs) > 0 {
		t.Errorf("refused requests started environments: %+v", envs)
	}
}

func TestUnsignedRequestsAreRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	name := b.function("", Function{})
	other := b.svc.AWSConfig()
	wrong := b.svc.Credentials()
	wrong.SecretAccessKey += "x"
	tests := []struct {
		name        string
		credentials aws.CredentialsProvider
		want        string
	}{
		{"no signature", aws.AnonymousCredentials{}, "MissingAuthenticationTokenException"},
		{"wrong secret", aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return wrong, nil }), "InvalidSignatureException"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := lambda.NewFromConfig(other, func(o *lambda.Options) { o.Credentials, o.RetryMaxAttempts = tt.credentials, 1 })
			_, err := c.Invoke(t.Context(), input(name, command{}))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "403") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestDryRunStartsNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	in := input(b.function("", Function{}), command{})
	in.InvocationType = types.InvocationTypeDryRun
	out, err := b.client.Invoke(t.Context(), in)
	if err != nil || out.StatusCode != http.StatusNoContent {
		t.Errorf("got %+v, %v", out, err)
	}
	if envs := b.svc.Environments(); len(envs) > 0 {
		t.Errorf("environments: %+v", envs)
	}
}

func TestErrorsOfTheFunction(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	name := b.function("", Function{})
	t.Run("returned", func(t *testing.T) {
		if f := b.failure(name, command{Do: "fail", Text: "no luck"}); f.Type != "errorString" || f.Message != "no luck" {
			t.Errorf("got %+v", f)
		}
		if a := b.succeed(name, command{}); a.Invocations != 2 {
			t.Errorf("an error ended the environment: invocation %d", a.Invocations)
		}
	})
	t.Run("panic", func(t *testing.T) {
		if f := b.failure(name, command{Do: "panic", Text: "oh no"}); f.Type != "string" || f.Message != "oh no" {
			t.Errorf("got %+v", f)
		}
		if a := b.succeed(name, command{}); a.Invocations != 1 {
			t.Errorf("a panic did not end the environment: invocation %d", a.Invocations)
		}
	})
	t.Run("large response", func(t *testing.T) {
		if f := b.failure(name, command{Do: "large", N: 7 << 20}); f.Type != "Function.ResponseSizeTooLarge" {
			t.Errorf("got %+v", f)
		}
		if a := b.succeed(name, command{Do: "large", N: 5 << 20}); len(a.Text) != 5<<20 {
			t.Errorf("got %d bytes", len(a.Text))
		}
	})
	t.Run("exit", func(t *testing.T) {
		f := b.failure(name, command{Do: "exit", N: 3})
		if f.Type != "Runtime.ExitError" || !strings.HasSuffix(f.Message, "Error: Runtime exited with error: exit status 3") {
			t.Errorf("got %+v", f)
		}
		f = b.failure(name, command{Do: "exit"})
		if f.Type != "Runtime.ExitError" || !strings.HasSuffix(f.Message, "Error: Runtime exited without providing a reason") {
			t.Errorf("got %+v", f)
		}
	})
}

func TestInitializationThatFails(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{InitTimeout: 2 * time.Second})
	tests := []struct{ behaviour, kind, message string }{
		{"exit-in-init", "Runtime.ExitError", "Runtime exited with error: exit status 7"},
		{"report-init-error", "Function.NoModule", "there is no such module"},
		{"hang-in-init", "Sandbox.Timedout", "Task timed out after 2.00 seconds"},
	}
	for _, tt := range tests {
		t.Run(tt.behaviour, func(t *testing.T) {
			f := b.failure(b.function(tt.behaviour, Function{Name: tt.behaviour}), command{})
			if f.Type != tt.kind || !strings.HasSuffix(f.Message, tt.message) {
				t.Errorf("got %+v", f)
			}
		})
	}
	b.await(func(envs []Environment) bool { return len(envs) == 0 })
	for _, r := range b.svc.Reports() {
		if r.Init <= 0 || r.BilledMS <= 0 || r.ErrorType == "" {
			t.Errorf("report %+v", r)
		}
	}
}

func TestLogTail(t *testing.T) {
	t.Parallel()
	b := newBench(t, Config{})
	name := b.function("", Function{MemoryMB: 300})
	out, err := b.client.Invoke(t.Context(), withTail(input(name, command{Do: "log", Text: "line", N: 3})))
	if err != nil {
		t.Fatal(err)
	}
	id := b.read(out).RequestID
	tail, err := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
	if err != nil {
		t.Fatal(err)
	}
	r := b.svc.Reports()[0]
	want := fmt.Sprintf("START RequestId: %s Version: $LATEST\nline 0\nline 1\nline 2\na line without an end\nEND RequestId: %[1]s\n"+
		"REPORT RequestId: %[1]s\tDuration: %.2f ms\tBilled Duration: %d ms\tMemory Size: 300 MB\tMax Memory Used: %d MB\tInit Duration: %.2f ms\t\n",
		id, milliseconds(r.Duration), r.BilledMS, r.MaxMemoryMB, milliseconds(r.Init))
	if string(tail) != want {
		t.Errorf("got\n%s\nwant\n%s", tail, want)
	}
	if r.MaxMemoryMB < 5 || r.MaxMemoryMB > 300 || r.Init <= 0 || r.BilledMS != billed(r.Init+r.Duration) {
		t.Errorf("report %+v", r)
	}
	if got, want := r.GBSeconds(), float64(r.BilledMS)/1000*300/1024; got != want {
		t.Errorf("%g GB-s, want %g", got, want)
	}
	if first := b.svc.EnvironmentLogs(r.Environment)[0]; first.Text != "worker: initializing" || first.RequestID != "" {
		t.Errorf("the first line of the environment is %+v", first)
	}

	out, err = b.client.Invoke(t.Context(), withTail(input(name, command{Do: "log", Text: strings.Repeat("x", 90), N: 500})))
	if err != nil {
		t.Fatal(err)
	}
	tail, err = base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
	if err != nil {
		t.Fatal(err)
	}
	if len(tail) != 4096 || !strings.Contains(string(tail), " 499\n") || strings.Contains(string(tail), "Init Duration") {
		t.Errorf("the tail has %d bytes: %s", len(tail), tail)
	}
	if n := len(b.svc.Logs(b.read(out).RequestID)); n != 504 {
		t.Errorf("%d lines are kept, want 504", n)
	}
}
