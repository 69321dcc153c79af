package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/bradawl/bradawl/lambdaclient/exchange"
	"github.com/bradawl/bradawl/mapreduce-demo/input"
)

// options are the flags.
type options struct {
	shuffle     string
	mappers     int
	reducers    int
	input       string
	output      string
	network     string
	json        string
	concurrency int
	memory      int
	region      string
	prices      string
	s3Model     string
	sync        string
}

const (
	compare     = "compare"
	networkAuto = "auto"
	modelOff    = "off"
	maxTasks    = 10_000
)

func (o *options) define(f *pflag.FlagSet) {
	f.StringVar(&o.shuffle, "shuffle", compare, "how partitions reach the reducers: direct, s3, auto (direct, and S3 where a link fails), or compare (direct, then s3)")
	f.IntVar(&o.mappers, "mappers", 8, "`number` of map tasks")
	f.IntVar(&o.reducers, "reducers", 4, "`number` of reduce tasks, and of parts of the output")
	f.StringVar(&o.input, "input", "", "`file`, directory or s3://bucket/prefix to count (default: the Go source tree)")
	f.StringVar(&o.output, "output", "", "new or empty `directory`, or s3://bucket/prefix (default: a temporary directory)")
	f.StringVar(&o.network, "network", networkAuto, "nat (each function behind a kernel NAT of its own), loopback, or auto (nat where the kernel allows it)")
	f.StringVar(&o.json, "json", "", "`file` to write the result to, for machines")
	f.IntVar(&o.concurrency, "concurrency", 1000, "`number` of functions that may run at once, as in an AWS account")
	f.IntVar(&o.memory, "memory", 1769, "memory of the function in `MB`; its price depends on it")
	f.StringVar(&o.region, "region", "us-east-1", "`region` by whose prices the run is reckoned")
	f.StringVar(&o.prices, "prices", "", "JSON `file` of prices, in the form of lambdaclient/price/prices.json; default: the published ones that it has")
	f.StringVar(&o.sync, "sync", "2s", "when mappers write to S3 with --shuffle auto: `when` they have waited so long, write-through, never, or auto (when waiting has cost as much)")
	f.StringVar(&o.s3Model, "s3-model", modelOff, "how the local S3 server behaves: off (as fast as it can), or published (latencies, 503 SlowDown and bandwidth as from a function)")
}

// check finds wrong flags.
func (o *options) check() error {
	for name, n := range map[string]int{"mappers": o.mappers, "reducers": o.reducers, "concurrency": o.concurrency} {
		if n < 1 || n > maxTasks {
			return fmt.Errorf("--%s is %d; it must be from 1 to %d", name, n, maxTasks)
		}
	}
	if o.memory < 128 || o.memory > 10240 {
		return fmt.Errorf("--memory is %d; Lambda has from 128 to 10240 MB", o.memory)
	}
	if !slices.Contains([]string{"direct", "s3", "auto", compare}, o.shuffle) {
		return fmt.Errorf("--shuffle is %q; it must be direct, s3, auto or compare", o.shuffle)
	}
	if !slices.Contains([]string{networkAuto, "nat", "loopback"}, o.network) {
		return fmt.Errorf("--network is %q; it must be auto, nat or loopback", o.network)
	}
	if err := checkSync(o.sync); err != nil {
		return err
	}
	if !slices.Contains([]string{modelOff, "published"}, o.s3Model) {
		return fmt.Errorf("--s3-model is %q; it must be off or published", o.s3Model)
	}
	if o.shuffle == compare && o.mappers+o.reducers > o.concurrency {
		return fmt.Errorf("%d mappers and %d reducers do not fit into a concurrency of %d, so there is nothing to compare; use --shuffle s3 or fewer tasks",
			o.mappers, o.reducers, o.concurrency)
	}
	for name, value := range map[string]string{"input": o.input, "output": o.output} {
		if _, _, _, err := input.ParseS3(value); err != nil {
			return fmt.Errorf("--%s: %w", name, err)
		}
	}
	if o.json != "" {
		if info, err := os.Stat(filepath.Dir(o.json)); err != nil || !info.IsDir() {
			return fmt.Errorf("--json %s: there is no directory %s", o.json, filepath.Dir(o.json))
		}
		if info, err := os.Stat(o.json); err == nil && info.IsDir() {
			return fmt.Errorf("--json %s: it is a directory", o.json)
		}
	}
	return nil
}

// modes are the runs to make.
func (o *options) modes() []exchange.Mode {
	if o.shuffle == compare {
		return []exchange.Mode{exchange.Direct, exchange.S3}
	}
	return []exchange.Mode{exchange.Mode(o.shuffle)}
}

// remote tells whether input or output lies on S3.
func (o *options) remote() bool {
	return strings.HasPrefix(o.input, "s3://") || strings.HasPrefix(o.output, "s3://")
}

// goSource finds the source tree that comes with every Go installation.
func goSource() (string, error) {
	roots := []string{os.Getenv("GOROOT")}
	if out, err := exec.Command("go", "env", "GOROOT").Output(); err == nil {
		roots = append(roots, strings.TrimSpace(string(out)))
	}
	for _, root := range append(roots, "/usr/local/go") {
		if root == "" {
			continue
		}
		src := filepath.Join(root, "src")
		if info, err := os.Stat(filepath.Join(src, "fmt", "print.go")); err == nil && info.Mode().IsRegular() {
			return src, nil
		}
	}
	return "", errors.New("no Go source tree found to count; pass --input FILE, --input DIRECTORY or --input s3://BUCKET/PREFIX")
}
