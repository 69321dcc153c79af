package driver_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/internal/s3lab"
	"github.com/bradawl/bradawl/lambdaclient/exchange"
	"github.com/bradawl/bradawl/mapreduce-demo/driver"
	"github.com/bradawl/bradawl/mapreduce-demo/input"
	"github.com/bradawl/bradawl/mapreduce-demo/jobs/wordcount"
	"github.com/bradawl/bradawl/mapreduce-demo/stage"
	"github.com/bradawl/bradawl/mapreduce-demo/task"
	"github.com/bradawl/bradawl/server/daemon"
)

func TestMain(m *testing.M) {
	s3lab.Child()
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "worker":
			task.Main()
		case "rendezvous":
			os.Exit(daemon.Main(context.Background(), os.Args[2:], os.Stdout, os.Stderr))
		}
	}
	natlab.Main(m)
}

// patience bounds every wait of a test.
const patience = 2 * time.Minute

// bench is a stage with an input, and an ear for what happens on it.
type bench struct {
	t     *testing.T
	ctx   context.Context
	stage *stage.Stage
	want  string // the output, from an independent count
	cfg   driver.Config

	mu     sync.Mutex
	heard  []heard
	change chan struct{} // closed and replaced at every new entry
}

// heard is a word from a worker or from the driver.
type heard struct {
	at          time.Time
	environment string
	task        task.Event
	driver      driver.Event
}

func newBench(t *testing.T, network stage.Network, mappers, reducers int, mode exchange.Mode, text []string) *bench {
	t.Helper()
	return newBenchBehind(t, natlab.PortRestricted(), network, mappers, reducers, mode, text)
}

// newBenchBehind has all functions behind NATs of a kind.
func newBenchBehind(t *testing.T, kind natlab.NAT, network stage.Network, mappers, reducers int, mode exchange.Mode, text []string) *bench {
	t.Helper()
	if network == stage.NAT {
		natlab.Require(t)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	b := &bench{t: t, ctx: ctx, change: make(chan struct{}), want: count(text)}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b.stage, err = stage.New(ctx, stage.Config{
		Network: network, Dir: t.TempDir(), Program: exe,
		Rendezvous: []string{"rendezvous"}, Worker: []string{"worker"},
		NATKind: kind,
		OnTask:  func(environment string, e task.Event) { b.hear(heard{environment: environment, task: e}) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() || testing.Verbose() {
			b.dump()
		}
		if err := b.stage.Close(); err != nil {
			t.Errorf("close the stage: %v", err)
		}
	})
	if err := b.stage.AddFunction("worker"); err != nil {
		t.Fatal(err)
	}
	var files []input.File
	for i, s := range text {
		files = append(files, input.File{
			Name: fmt.Sprint("text", i), Size: int64(len(s)),
			Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil },
		})
	}
	packed, err := input.Pack(ctx, files, input.PackConfig{Splits: mappers, Prefix: "input/", Put: b.stage.Store.Put})
	if err != nil {
		t.Fatal(err)
	}
	url, err := b.stage.Rendezvous.URL("run", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	b.cfg = driver.Config{
		Lambda: b.stage.LambdaClient(), Function: "worker", Store: b.stage.Store,
		Job: wordcount.Name, Run: "run", Rendezvous: url, Mode: mode,
		Policy: exchange.Policy{TimeToSync: exchange.Never, TimeToLive: exchange.Never},
		Splits: packed.Splits, Reducers: reducers,
		OnEvent: func(e driver.Event) { b.hear(heard{driver: e}) },
	}
	return b
}

func (b *bench) hear(h heard) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h.at = time.Now()
	b.heard = append(b.heard, h)
	close(b.change)
	b.change = make(chan struct{})
}

// await returns the first word, past or future, that matches.
func (b *bench) await(what string, match func(heard) bool) heard {
	b.t.Helper()
	for seen := 0; ; {
		b.mu.Lock()
		news, change := b.heard[seen:], b.change
		b.mu.Unlock()
		for _, h := range news {
			if match(h) {
				return h
			}
		}
		seen += len(news)
		select {
		case <-change:
		case <-b.ctx.Done():
			b.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// at waits until an attempt passes a point, and says where it runs.
func (b *bench) at(id task.ID, point task.Point) (environment string) {
	b.t.Helper()
	return b.await(fmt.Sprintf("%s at %s", id, point), func(h heard) bool {
		return h.task.ID == id && h.task.At == point
	}).environment
}

// failed waits until the driver has noticed that an attempt failed.
func (b *bench) failed(id task.ID) driver.Event {
	b.t.Helper()
	return b.await(fmt.Sprintf("the failure of %s", id), func(h heard) bool {
		return h.driver.Kind == driver.TaskFailed && h.driver.ID == id
	}).driver
}

func (b *bench) kill(environment string) {
	b.t.Helper()
	if err := b.stage.Lambda.Kill(environment, syscall.SIGKILL); err != nil {
		b.t.Fatal(err)
	}
}

// release lets all attempts of a task go on from a point.
func (b *bench) release(kind task.Kind, index int, at task.Point) {
	b.t.Helper()
	if err := b.stage.Store.Put(b.ctx, task.ReleaseKey(b.cfg.Run, kind, index, at), nil); err != nil {
		b.t.Fatal(err)
	}
}

// outcome is a finished run.
type outcome struct {
	result *driver.Result
	err    error
}

// start runs the job in the background.
func (b *bench) start() <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		result, err := driver.Run(b.ctx, b.cfg)
		done <- outcome{result, err}
	}()
	return done
}

// finish waits for a run, and checks its output.
func (b *bench) finish(done <-chan outcome) *driver.Result {
	b.t.Helper()
	o := <-done
	if o.err != nil {
		b.t.Fatal(o.err)
	}
	var lines []string
	for _, key := range o.result.Parts {
		part := strings.SplitAfter(b.object(key), "\n")
		part = part[:len(part)-1]
		if !slices.IsSorted(part) {
			b.t.Errorf("%s is not sorted", key)
		}
		lines = append(lines, part...)
	}
	slices.Sort(lines)
	if got := strings.Join(lines, ""); got != b.want {
		b.t.Errorf("the output is wrong (-want +got):\n%.2000s", cmp.Diff(b.want, got))
	}
	if there, err := b.stage.Store.Exists(b.ctx, task.SuccessKey(b.cfg.Run)); !there || err != nil {
		b.t.Errorf("there is no %s: %v", task.SuccessName, err)
	}
	return o.result
}

func (b *bench) object(key string) string {
	b.t.Helper()
	body, _, err := b.stage.Store.Get(b.ctx, key)
	if err != nil {
		b.t.Fatal(err)
	}
	defer body.Close()
	var text bytes.Buffer
	if _, err := io.Copy(&text, body); err != nil {
		b.t.Fatal(err)
	}
	return text.String()
}

func (b *bench) dump() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.heard {
		if h.environment != "" {
			b.t.Logf("%s %s: %s at %s held %v %s", h.at.Format("05.000"), h.environment, h.task.ID, h.task.At, h.task.Held, h.task.Note)
		} else {
			b.t.Logf("%s driver: %s %s %s", h.at.Format("05.000"), h.driver.Kind, h.driver.ID, h.driver.Note)
		}
	}
}

// count is the word count by other means.
func count(text []string) string {
	counts := map[string]int{}
	for _, s := range text {
		for _, word := range strings.FieldsFunc(s, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
			counts[strings.Map(unicode.ToLower, word)]++
		}
	}
	var out []string
	for _, word := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, fmt.Sprintf("%s\t%d\n", word, counts[word]))
	}
	// Whole lines are sorted, as part files are: a tab comes before every letter.
	slices.Sort(out)
	return strings.Join(out, "")
}

// prose makes texts of words that repeat; many says how many different ones.
func prose(t *testing.T, files, words, many int) []string {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	text := make([]string, files)
	for i := range text {
		var s strings.Builder
		for n := range words {
			fmt.Fprintf(&s, "Wört%08x", rng.IntN(many)*2654435761%(1<<32))
			if n%11 == 10 {
				s.WriteByte('\n')
			} else {
				s.WriteByte(' ')
			}
		}
		text[i] = s.String()
	}
	return text
}

// attempts lists the attempts of a task in a result, and how they ended.
func attempts(r *driver.Result, kind task.Kind, index int) (list []driver.Attempt) {
	for _, a := range r.Attempts {
		if a.Kind == kind && a.Index == index {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, func(a, b driver.Attempt) int { return a.Attempt - b.Attempt })
	return list
}
