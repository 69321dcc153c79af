package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/internal/s3lab"
	"github.com/bradawl/bradawl/lambdaclient/exchange"
	"github.com/bradawl/bradawl/mapreduce-demo/driver"
	"github.com/bradawl/bradawl/mapreduce-demo/input"
	"github.com/bradawl/bradawl/mapreduce-demo/jobs/wordcount"
	"github.com/bradawl/bradawl/mapreduce-demo/output"
	"github.com/bradawl/bradawl/mapreduce-demo/report"
	"github.com/bradawl/bradawl/mapreduce-demo/stage"
	"github.com/bradawl/bradawl/mapreduce-demo/task"
)

// errDiffer says that the two runs of a comparison gave different outputs.
var errDiffer = errors.New("the outputs of the two runs differ")

// tokenLifetime is how long the workers' token is good: longer than any function runs.
const tokenLifetime = time.Hour

// run does everything: network, input, servers, runs, output, report.
func run(ctx context.Context, o options, stdout, stderr io.Writer) error {
	v, err := enter(o.network, o.remote())
	if err != nil {
		return err
	}
	defer v.leave()
	p := newProgress(stderr)
	files, from, err := sources(ctx, o.input, v)
	if err != nil {
		return err
	}
	target, err := target(ctx, o.output, v)
	if err != nil {
		return err
	}
	if target != nil {
		if err := target.Check(ctx); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "mapreduce-demo-*")
	if err != nil {
		return fmt.Errorf("make a directory for the demo's servers: %w", err)
	}
	defer os.RemoveAll(dir)
	rates, err := prices(o.prices, o.region)
	if err != nil {
		return err
	}
	exe, err := executable()
	if err != nil {
		return err
	}
	if v.why != "" {
		p.say("network: %s, because %s", v.network, v.why)
	} else {
		p.say("network: %s", v.network)
	}
	var model *s3lab.Model
	if o.s3Model != modelOff {
		published := s3lab.Published()
		model = &published
	}
	s, err := stage.New(ctx, stage.Config{
		Network: v.network, Dir: dir, Program: exe,
		Rendezvous: []string{roleRendezvous}, Worker: []string{roleWorker},
		NATKind: natlab.PortRestricted(), Concurrency: o.concurrency, MemoryMB: o.memory, S3Model: model,
		OnTask: func(_ string, e task.Event) { p.worker(e) },
	})
	if err != nil {
		return err
	}
	defer s.Close()
	d := &demo{options: o, stage: s, progress: p, doc: report.Document{
		Network: string(v.network), Why: v.why, Memory: o.memory, Prices: rates, S3Model: model.String(),
		Input: report.Input{Path: from},
	}}
	if v.network == stage.NAT {
		d.doc.NAT = natlab.PortRestricted().String()
	}
	if err := d.pack(ctx, files); err != nil {
		return err
	}
	if err := d.runAll(ctx); err != nil {
		return err
	}
	return d.deliver(ctx, target, stdout)
}

// sources lists the input.
func sources(ctx context.Context, path string, v venue) (files []input.File, from string, err error) {
	if path == "" {
		if path, err = goSource(); err != nil {
			return nil, "", err
		}
	}
	bucket, prefix, remote, err := input.ParseS3(path)
	switch {
	case err != nil:
		return nil, "", err
	case !remote:
		files, err = input.Local(path)
		return files, path, err
	}
	client, err := ordinaryS3(ctx, v)
	if err != nil {
		return nil, "", err
	}
	files, err = input.S3(ctx, client, bucket, prefix)
	return files, path, err
}

// demo is one call of the command, past its preparations.
type demo struct {
	options
	stage    *stage.Stage
	progress *progress
	doc      report.Document
	splits   []input.Split
	outputs  [][]output.Part // of each run
}

// pack brings the input to where mappers read it.
func (d *demo) pack(ctx context.Context, files []input.File) error {
	d.progress.say("input: %s, %d files", d.doc.Input.Path, len(files))
	start := time.Now()
	packed, err := input.Pack(ctx, files, input.PackConfig{
		Splits: d.mappers, Prefix: "input/", Put: d.stage.Store.Put,
	})
	if err != nil {
		return err
	}
	d.splits = packed.Splits
	in := &d.doc.Input
	in.Files, in.Bytes, in.Objects = packed.Files, packed.Bytes, packed.Objects
	in.PackMS = report.MS(time.Since(start).Seconds() * 1000)
	d.progress.say("packed %.1f MB into %d objects in %s", float64(in.Bytes)/1e6, in.Objects, in.PackMS)
	return nil
}

// runAll makes the runs that were asked for, one after the other.
func (d *demo) runAll(ctx context.Context) error {
	for _, mode := range d.modes() {
		if err := d.runOne(ctx, mode); err != nil {
			return err
		}
	}
	if len(d.outputs) < 2 {
		return nil
	}
	difference, err := output.Difference(ctx, d.outputs[0], d.outputs[1])
	if err != nil {
		return fmt.Errorf("compare the outputs: %w", err)
	}
	equal := difference == ""
	d.doc.Equal = &equal
	return nil
}

// runOne makes one run, with a function of its own so that each begins cold.
func (d *demo) runOne(ctx context.Context, mode exchange.Mode) error {
	id := fmt.Sprintf("%s-%s", mode, strings.ToLower(rand.Text()[:10]))
	function := "mapreduce-" + string(mode)
	if err := d.stage.AddFunction(function); err != nil {
		return err
	}
	defer d.stage.Lambda.Reap(function)
	var url task.Secret
	if mode != exchange.S3 {
		var err error
		if url, err = d.stage.Rendezvous.URL(id, tokenLifetime); err != nil {
			return err
		}
	}
	own, before, err := d.counts(ctx)
	if err != nil {
		return err
	}
	d.progress.begin(id, mode, d.mappers, d.reducers)
	result, err := driver.Run(ctx, driver.Config{
		Lambda: d.stage.LambdaClient(), Function: function, Store: d.stage.Store,
		Job: wordcount.Name, Run: id, Rendezvous: url, Mode: mode, Policy: policy(mode, d.sync, exchange.Costs{Rates: d.doc.Prices, MemoryMB: d.memory}),
		Splits: d.splits, Reducers: d.reducers, Concurrency: d.concurrency,
		OnEvent: d.progress.driver,
	})
	d.progress.end()
	if err != nil {
		return err
	}
	ownAfter, after, err := d.counts(ctx)
	if err != nil {
		return err
	}
	d.doc.Runs = append(d.doc.Runs, report.Summarize(result, d.doc.Prices, ownAfter.Sub(own), after.Sub(before)))
	var parts []output.Part
	for i, key := range result.Parts {
		parts = append(parts, output.Part{
			Name: task.PartName(i),
			Open: func(ctx context.Context) (io.ReadCloser, int64, error) { return d.stage.Store.Get(ctx, key) },
		})
	}
	d.outputs = append(d.outputs, parts)
	return nil
}

// deliver brings the output to its place and prints the report.
func (d *demo) deliver(ctx context.Context, target output.Target, stdout io.Writer) error {
	differ := d.doc.Equal != nil && !*d.doc.Equal
	if !differ {
		if target == nil {
			dir, err := os.MkdirTemp("", "mapreduce-output-*")
			if err != nil {
				return fmt.Errorf("make a directory for the output: %w", err)
			}
			target = output.Directory(dir)
		}
		if err := target.Deliver(ctx, d.outputs[0], task.SuccessName); err != nil {
			return err
		}
		d.doc.Output = target.String()
	}
	if err := d.doc.Print(stdout); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	if d.json != "" {
		if err := d.doc.Save(filepath.Clean(d.json)); err != nil {
			return err
		}
	}
	if differ {
		return errDiffer
	}
	return nil
}
