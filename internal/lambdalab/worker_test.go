package lambdalab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

// The worker is this test binary, run as an aws-lambda-go function.

// workerVariable says how the worker behaves: its value is a list of words.
const workerVariable = "LAMBDALAB_TEST_WORKER"

// command is what an invocation of the worker asks for.
type command struct {
	Do   string // see handle
	Text string
	N    int
}

// answer is what the worker responds.
type answer struct {
	Text        string
	PID         int
	Invocations int
	RequestID   string
	ARN         string
	Deadline    time.Time
	Env         []string
	Client      string
}

func actAsWorker(behaviour string) {
	has := func(word string) bool { return strings.Contains(behaviour, word) }
	fmt.Println("worker: initializing")
	switch {
	case has("exit-in-init"):
		os.Exit(7)
	case has("hang-in-init"):
		time.Sleep(time.Hour) // until it is killed
	case has("report-init-error"):
		reportInitError()
	}
	var options []lambda.Option
	if has("sigterm") {
		options = append(options, lambda.WithEnableSIGTERM(func() { fmt.Println("worker: got SIGTERM") }))
	}
	if has("extension") {
		next := registerExtension()
		go func() {
			for {
				fmt.Println("extension: got", next())
			}
		}()
	}
	w := &worker{}
	lambda.StartWithOptions(w.handle, options...)
}

// reportInitError does what runtimes do whose function cannot be loaded.
func reportInitError() {
	body := `{"errorType":"Function.NoModule","errorMessage":"there is no such module"}`
	resp, err := http.Post("http://"+os.Getenv("AWS_LAMBDA_RUNTIME_API")+"/2018-06-01/runtime/init/error", "application/json", strings.NewReader(body))
	if err != nil || resp.StatusCode != http.StatusAccepted {
		fmt.Println("worker: the init error was not taken:", err)
	}
	os.Exit(1)
}

type worker struct{ invocations int }

func (w *worker) handle(ctx context.Context, c command) (answer, error) {
	w.invocations++
	lc, _ := lambdacontext.FromContext(ctx)
	deadline, _ := ctx.Deadline()
	a := answer{
		Text: c.Text, PID: os.Getpid(), Invocations: w.invocations, RequestID: lc.AwsRequestID,
		ARN: lc.InvokedFunctionArn, Deadline: deadline, Client: lc.ClientContext.Client.AppTitle,
	}
	switch c.Do {
	case "", "echo":
	case "log":
		for i := range c.N {
			fmt.Printf("%s %d\n", c.Text, i)
		}
		fmt.Print("a line without an end")
	case "fail":
		return answer{}, errors.New(c.Text)
	case "panic":
		panic(c.Text)
	case "exit":
		fmt.Println("worker: about to exit")
		os.Exit(c.N)
	case "wait": // for the deadline
		<-ctx.Done()
		select {}
	case "meet": // until a file appears
		if err := os.WriteFile(c.Text+"."+lc.AwsRequestID, nil, 0o600); err != nil {
			return answer{}, err
		}
		return a, awaitFile(ctx, c.Text)
	case "grow":
		return a, grow(ctx, c.N)
	case "large":
		a.Text = strings.Repeat("x", c.N)
	case "env":
		a.Env = os.Environ()
	case "limits":
		var l syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
			return answer{}, err
		}
		a.Text = fmt.Sprint(l.Cur, " ", l.Max)
	case "temp":
		a.Text = os.TempDir()
		return a, os.WriteFile(filepath.Join(os.TempDir(), "file"), []byte(c.Text), 0o600)
	case "addresses":
		addrs, err := net.InterfaceAddrs()
		a.Text = fmt.Sprint(addrs)
		return a, err
	case "dial":
		return a, dial(ctx, c.Text)
	default:
		return answer{}, fmt.Errorf("unknown command %q", c.Do)
	}
	return a, nil
}

// awaitFile returns when a file exists. It looks again and again: it stands
// for work of unknown length.
func awaitFile(ctx context.Context, name string) error {
	for {
		if _, err := os.Stat(name); err == nil {
			return nil
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// grow takes ever more memory, up to n MiB, and waits.
func grow(ctx context.Context, n int) error {
	debug.SetGCPercent(-1)
	var hold [][]byte
	for range n {
		hold = append(hold, bytes.Repeat([]byte{1}, 1<<20))
	}
	<-ctx.Done()
	return fmt.Errorf("held %d MiB until the deadline", len(hold))
}

// dial sends a word to a TCP address.
func dial(ctx context.Context, address string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	_, err = conn.Write([]byte("hello\n"))
	return errors.Join(err, conn.Close())
}

// registerExtension registers an extension for all events and returns a
// function that waits for the next one.
func registerExtension() (next func() string) {
	base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2020-01-01/extension/"
	call := func(method, path string, header http.Header, body string) (*http.Response, []byte) {
		req, err := http.NewRequest(method, base+path, strings.NewReader(body))
		if err != nil {
			panic(err)
		}
		req.Header = header
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			panic(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			panic(fmt.Sprint(path, ": ", resp.Status, err, string(b)))
		}
		return resp, b
	}
	resp, _ := call("POST", "register", http.Header{"Lambda-Extension-Name": {"watcher"}}, `{"events":["INVOKE","SHUTDOWN"]}`)
	id := resp.Header.Get("Lambda-Extension-Identifier")
	return func() string {
		_, b := call("GET", "event/next", http.Header{"Lambda-Extension-Identifier": {id}}, "")
		var event struct{ EventType, ShutdownReason, RequestID string }
		if err := json.Unmarshal(b, &event); err != nil {
			panic(err)
		}
		return event.EventType + " " + event.ShutdownReason + event.RequestID
	}
}
