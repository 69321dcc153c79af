package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"golang.org/x/sync/errgroup"

	"github.com/bradawl/bradawl/internal/lambdalab"
	"github.com/bradawl/bradawl/internal/natlab"
)

// heard is what one of the two functions answered.
type heard struct {
	name    string
	Heard   string `json:"heard"`
	Address string `json:"address"`
}

const pkg = "github.com/bradawl/bradawl/examples/greet"

// try builds the function, and lets alice greet bob.
func try(ctx context.Context) (all []heard, err error) {
	dir, err := os.MkdirTemp("", "bradawl-greet-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	bootstrap := filepath.Join(dir, "bootstrap")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", bootstrap, pkg).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s: %w: %s; run it inside the repository", pkg, err, out)
	}
	lab, err := natlab.New(natlab.Config{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	url, stopped, err := serve(ctx, lab)
	if err != nil {
		return nil, err
	}
	defer func() {
		cancel()
		err = errors.Join(err, <-stopped)
	}()
	service, err := lambdalab.New(lambdalab.Config{Network: lambdalab.NAT(lab, natlab.PortRestricted(), natlab.Link{})})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, service.Close()) }()
	err = service.CreateFunction(lambdalab.Function{
		Name: "greet", Command: []string{bootstrap}, Timeout: 30 * time.Second, MemoryMB: 256, Env: map[string]string{"BRADAWL_URL": url},
	})
	if err != nil {
		return nil, err
	}
	return greet(ctx, lambda.NewFromConfig(service.AWSConfig()))
}

// greet invokes the function twice at the same time, as two peers.
func greet(ctx context.Context, sdk *lambda.Client) ([]heard, error) {
	all := make([]heard, 2)
	g, ctx := errgroup.WithContext(ctx)
	for i, event := range []map[string]string{{"name": "bob"}, {"name": "alice", "peer": "bob"}} {
		g.Go(func() error {
			payload, err := json.Marshal(event)
			if err != nil {
				return err
			}
			out, err := sdk.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String("greet"), Payload: payload})
			if err != nil {
				return err
			}
			if out.FunctionError != nil {
				return fmt.Errorf("%s: %s", event["name"], out.Payload)
			}
			all[i].name = event["name"]
			return json.Unmarshal(out.Payload, &all[i])
		})
	}
	return all, g.Wait()
}
