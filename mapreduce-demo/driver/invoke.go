package driver

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/cenkalti/backoff/v5"

	"github.com/bradawl/bradawl/mapreduce-demo/store"
	"github.com/bradawl/bradawl/mapreduce-demo/task"
)

// Attempt is one invocation of the function, finished.
type Attempt struct {
	task.ID
	Started time.Time     `json:"started"`
	Wall    time.Duration `json:"wall_ns"`
	// Report is what the task answered; nil if it did not answer.
	Report *task.Report `json:"report,omitempty"`
	// Error is empty for a success.
	Error string `json:"error,omitempty"`
	// Throttles counts invocations that were refused for the concurrency limit before this one.
	Throttles int     `json:"throttles,omitempty"`
	Billing   Billing `json:"billing"`

	lost  *task.Lost
	final bool
	seen  []int // the newest attempt of each mapper when this one was started
}

// Billing is what Lambda wrote into the REPORT line of the log. It is zero where
// the answer came without one.
type Billing struct {
	Billed   time.Duration `json:"billed_ns"`
	Init     time.Duration `json:"init_ns,omitempty"`
	MemoryMB int           `json:"memory_mb"`
	MaxMB    int           `json:"max_memory_mb"`
}

// maxPayload is what Lambda takes in a synchronous invocation.
const maxPayload = 6 << 20

// invoke runs one attempt. It does not fail: what went wrong stands in the result.
func (r *run) invoke(ctx context.Context, p task.Payload) Attempt {
	a := Attempt{ID: p.ID, Started: time.Now()}
	err := r.call(ctx, p, &a)
	a.Wall = time.Since(a.Started)
	if err != nil {
		a.Error = err.Error()
	}
	return a
}

func (r *run) call(ctx context.Context, p task.Payload, a *Attempt) error {
	body, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode the payload: %w", err)
	}
	if len(body) > maxPayload {
		a.final = true
		return fmt.Errorf("the description of its input is %d bytes, and Lambda takes %d; use more mappers", len(body), maxPayload)
	}
	// Retries are the driver's: each has its own attempt number. Only a refusal for
	// the concurrency limit, where nothing ran, is tried again with the same one.
	out, err := backoff.Retry(ctx, func() (*lambda.InvokeOutput, error) {
		out, err := r.cfg.Lambda.Invoke(ctx, &lambda.InvokeInput{
			FunctionName: aws.String(r.cfg.Function), Payload: body, LogType: types.LogTypeTail,
		}, func(o *lambda.Options) { o.Retryer = aws.NopRetryer{} })
		var throttled *types.TooManyRequestsException
		if err != nil && !errors.As(err, &throttled) {
			err = backoff.Permanent(err)
		} else if err != nil {
			a.Throttles++
			a.Started = time.Now()
		}
		return out, err
	}, backoff.WithBackOff(backoff.NewExponentialBackOff()), backoff.WithMaxElapsedTime(0))
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var missing *types.ResourceNotFoundException
		a.final = errors.As(err, &missing)
		return fmt.Errorf("invoke: %w", store.Plain(err))
	}
	a.Billing = parseBilling(aws.ToString(out.LogResult))
	if out.FunctionError != nil {
		return functionError(out.Payload)
	}
	report := new(task.Report)
	if err := json.Unmarshal(out.Payload, report); err != nil {
		return fmt.Errorf("its answer makes no sense: %w", err)
	}
	a.Report = report
	if f := report.Failure; f != nil {
		a.lost, a.final = f.Lost, f.Final
		return errors.New(f.Message)
	}
	return nil
}

// functionError reads the error document of a function that did not answer.
func functionError(payload []byte) error {
	var doc struct {
		Type    string `json:"errorType"`
		Message string `json:"errorMessage"`
	}
	if json.Unmarshal(payload, &doc) != nil || doc.Message == "" {
		return errors.New("the function failed without a word")
	}
	if doc.Type == "" {
		return errors.New(doc.Message)
	}
	return fmt.Errorf("%s: %s", doc.Type, doc.Message)
}

// parseBilling finds the REPORT line in a log tail.
func parseBilling(tail string) Billing {
	var b Billing
	text, err := base64.StdEncoding.DecodeString(tail)
	if err != nil {
		return b
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "REPORT ") {
			continue
		}
		for field := range strings.SplitSeq(strings.TrimSpace(line), "\t") {
			name, value, _ := strings.Cut(field, ": ")
			number, _, _ := strings.Cut(value, " ")
			n, err := strconv.ParseFloat(number, 64)
			if err != nil {
				continue
			}
			ms := time.Duration(n * float64(time.Millisecond))
			switch name {
			case "Billed Duration":
				b.Billed = ms
			case "Init Duration":
				b.Init = ms
			case "Memory Size":
				b.MemoryMB = int(n)
			case "Max Memory Used":
				b.MaxMB = int(n)
			}
		}
	}
	return b
}
