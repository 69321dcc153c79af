package exchange

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"go.uber.org/goleak"

	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/internal/s3lab"
)

var lab struct {
	once sync.Once
	srv  *s3lab.Server
	dir  string
	err  error
	n    int
	mu   sync.Mutex
}

func TestMain(m *testing.M) {
	s3lab.Child()
	if err := natlab.Enter(); err != nil && !errors.Is(err, natlab.ErrUnavailable) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if lab.srv != nil {
		_ = lab.srv.Close()
	}
	if lab.dir != "" {
		_ = os.RemoveAll(lab.dir)
	}
	os.Exit(code)
}

// startLab brings the S3 server up, once for all tests.
func startLab(t testing.TB) {
	t.Helper()
	lab.once.Do(func() {
		if lab.dir, lab.err = os.MkdirTemp("", "exchange-s3-*"); lab.err == nil {
			lab.srv, lab.err = s3lab.Start(context.Background(), s3lab.Config{Dir: lab.dir})
		}
	})
	if lab.err != nil {
		t.Fatal(lab.err)
	}
}

// store gives a store in a bucket of its own.
func store(t testing.TB, options ...func(*s3.Options)) *S3Store {
	t.Helper()
	startLab(t)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	t.Cleanup(transport.CloseIdleConnections)
	cfg := lab.srv.AWSConfig()
	cfg.HTTPClient = &http.Client{Transport: transport}
	client := s3.NewFromConfig(cfg, append([]func(*s3.Options){func(o *s3.Options) { o.UsePathStyle = true }}, options...)...)
	lab.mu.Lock()
	lab.n++
	bucket := fmt.Sprintf("exchange-%d", lab.n)
	lab.mu.Unlock()
	if _, err := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }).CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket}); err != nil {
		t.Fatal(err)
	}
	return &S3Store{Client: client, Bucket: bucket, Prefix: "pre/fix"}
}

// check ends a test with a look for leaked goroutines. Call it first.
func check(t testing.TB) {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		if !t.Failed() {
			goleak.VerifyNone(t, ignore)
		}
	})
}

// patience bounds the waiting for what must come, on a busy machine.
const patience = time.Minute

// within gives a context that ends with the test's patience, but has no
// deadline, by which a producer would go.
func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	timer := time.AfterFunc(patience, func() { cancel(errors.New("the test's patience is over")) })
	t.Cleanup(func() { timer.Stop(); cancel(nil) })
	return ctx
}

// until polls for something that must come.
func until(t testing.TB, ok func() bool) {
	t.Helper()
	ctx := within(t)
	for tick := time.NewTicker(time.Millisecond); !ok(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("it did not come in time")
		}
	}
}

// bytesOf is the same for the same name.
func bytesOf(n int, name string) []byte {
	r := rand.NewChaCha8(sha256.Sum256([]byte(name)))
	b := make([]byte, n)
	_, _ = r.Read(b) // never fails
	return b
}

// fixture is one shuffle under test.
type fixture struct {
	t       testing.TB
	hub     *hub
	store   *S3Store
	shuffle Shuffle
	mode    Mode
}

func newFixture(t testing.TB, mode Mode, producers, consumers int) *fixture {
	t.Helper()
	if mode.usesStore() {
		startLab(t) // its goroutines outlive the test
	}
	check(t)
	f := &fixture{t: t, mode: mode, shuffle: Shuffle{Job: "job/1", Producers: producers, Consumers: consumers}}
	if mode.usesLinks() {
		f.hub = newHub(t)
	}
	if mode.usesStore() {
		f.store = store(t)
	}
	return f
}

func (f *fixture) producer(index, attempt int, change ...func(*ProducerConfig)) *Producer {
	f.t.Helper()
	cfg := ProducerConfig{Shuffle: f.shuffle, Producer: index, Attempt: attempt, Mode: f.mode, Store: f.store,
		Policy: Policy{TimeToSync: Never, TimeToLive: Never}}
	if f.hub != nil {
		cfg.Network = f.hub.node(fmt.Sprintf("producer-%d-%d", index, attempt))
	}
	for _, c := range change {
		c(&cfg)
	}
	p, err := NewProducer(within(f.t), cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := p.Close(); err != nil {
			f.t.Error(err)
		}
	})
	return p
}

func (f *fixture) consumer(index, attempt int, change ...func(*ConsumerConfig)) *Consumer {
	f.t.Helper()
	cfg := ConsumerConfig{Shuffle: f.shuffle, Consumer: index, Attempt: attempt, Mode: f.mode, Store: f.store, Patience: 200 * time.Millisecond}
	if f.hub != nil {
		cfg.Network = f.hub.node(fmt.Sprintf("consumer-%d-%d", index, attempt))
	}
	for _, c := range change {
		c(&cfg)
	}
	c, err := NewConsumer(within(f.t), cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			f.t.Error(err)
		}
	})
	return c
}

// kill takes a node off the network.
func (f *fixture) kill(name string) {
	f.t.Helper()
	f.hub.mu.Lock()
	n := f.hub.nodes[name]
	f.hub.mu.Unlock()
	if n == nil {
		f.t.Fatalf("no node %s", name)
	}
	n.kill()
}

func fill(t testing.TB, p *Producer, parts ...[]byte) {
	t.Helper()
	for i, b := range parts {
		w := p.Partition(i)
		for len(b) > 0 { // in uneven pieces
			n := min(len(b), 7777+i)
			if _, err := w.Write(b[:n]); err != nil {
				t.Fatal(err)
			}
			b = b[n:]
		}
	}
}

func finish(t testing.TB, p *Producer) {
	t.Helper()
	if err := p.Finish(within(t)); err != nil {
		t.Fatalf("finish: %v", err)
	}
}

func open(t testing.TB, c *Consumer, producer int) *Reader {
	t.Helper()
	r, err := c.Open(within(t), producer)
	if err != nil {
		t.Fatalf("open producer %d: %v", producer, err)
	}
	return r
}

// mustRead opens and reads all, and compares.
func mustRead(t testing.TB, c *Consumer, producer int, want []byte) Source {
	t.Helper()
	r := open(t, c, producer)
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read producer %d: %v", producer, err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("producer %d: %d bytes that differ from the %d written", producer, len(got), len(want))
	}
	return r.Source()
}

func mustAck(t testing.TB, c *Consumer) {
	t.Helper()
	if err := c.Ack(within(t)); err != nil {
		t.Fatalf("ack: %v", err)
	}
}

func wait(t testing.TB, p *Producer) ProducerReport {
	t.Helper()
	r, err := p.Wait(within(t))
	if err != nil {
		t.Fatalf("wait: %v (%+v)", err, r)
	}
	return r
}

func wantLost(t testing.TB, err error, attempts ...int) *LostError {
	t.Helper()
	lost, ok := errors.AsType[*LostError](err)
	if !ok {
		t.Fatalf("got %v, want a LostError", err)
	}
	if fmt.Sprint(lost.Attempts) != fmt.Sprint(attempts) {
		t.Fatalf("attempts seen %v, want %v", lost.Attempts, attempts)
	}
	return lost
}

// object reads, or with change rewrites, an object of the store; key is without prefix.
func (f *fixture) object(key string, change func([]byte) []byte) []byte {
	f.t.Helper()
	ctx := within(f.t)
	full := "pre/fix/" + key
	out, err := f.store.Client.GetObject(ctx, &s3.GetObjectInput{Bucket: &f.store.Bucket, Key: &full})
	if err != nil {
		f.t.Fatal(err)
	}
	defer out.Body.Close()
	b, err := io.ReadAll(out.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	if change != nil {
		if b = change(b); b == nil {
			_, err = f.store.Client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &f.store.Bucket, Key: &full})
		} else {
			_, err = f.store.Client.PutObject(ctx, &s3.PutObjectInput{Bucket: &f.store.Bucket, Key: &full, Body: bytes.NewReader(b)})
		}
		if err != nil {
			f.t.Fatal(err)
		}
	}
	return b
}

// keys lists the store's objects, without prefix.
func (f *fixture) keys() (keys []string) {
	f.t.Helper()
	out, err := f.store.Client.ListObjectsV2(within(f.t), &s3.ListObjectsV2Input{Bucket: &f.store.Bucket})
	if err != nil {
		f.t.Fatal(err)
	}
	for _, o := range out.Contents {
		keys = append(keys, strings.TrimPrefix(aws.ToString(o.Key), "pre/fix/"))
	}
	return keys
}

func (f *fixture) record(producer int) *commitRecord {
	f.t.Helper()
	r, err := decodeRecord(f.object(commitKey(f.shuffle.Job, producer), nil), f.shuffle.Job, producer)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}
