package exchange

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
)

func TestLostProducer(t *testing.T) {
	for _, mode := range []Mode{Direct, Auto} {
		t.Run(string(mode)+"/while it works", func(t *testing.T) {
			f := newFixture(t, mode, 1, 1)
			f.producer(0, 3)
			c := f.consumer(0, 0)
			errs := make(chan error)
			go func() { _, err := c.Open(t.Context(), 0); errs <- err }()
			until(t, func() bool { return c.Report().Direct.Requests > 0 })
			f.kill("producer-0-3")
			wantLost(t, <-errs, 3)
		})
		t.Run(string(mode)+"/in mid-read", func(t *testing.T) {
			f := newFixture(t, mode, 1, 1)
			p := f.producer(0, 0)
			c := f.consumer(0, 0)
			fill(t, p, bytesOf(6<<20, "x"))
			finish(t, p)
			r := open(t, c, 0)
			if _, err := io.ReadFull(r, make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
			if mode == Auto { // it must not live to write to S3
				p.cancel()
			}
			f.kill("producer-0-0")
			_, err := io.ReadAll(r)
			wantLost(t, err, 0)
			if _, again := r.Read(make([]byte, 1)); again != err {
				t.Errorf("the error does not stay: %v", again)
			}
		})
	}
}

func TestNewAttemptIsPickedUp(t *testing.T) {
	data := bytesOf(6<<20, "x")
	other := append(bytes.Clone(data[:1<<20]), bytesOf(4<<20, "y")...)
	cases := []struct {
		name         string
		read         int
		second       []byte
		restart      bool
		killedBefore bool
	}{
		{name: "before the first byte", killedBefore: true, second: other},
		{name: "same bytes go on unnoticed", read: 3 << 20, second: data},
		{name: "same bytes so far, another rest", read: 1 << 19, second: other},
		{name: "other bytes restart the read", read: 3 << 20, second: other, restart: true},
		{name: "shorter than what was read", read: 3 << 20, second: data[:1<<20], restart: true},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, Direct, 1, 1)
			c := f.consumer(0, 0, func(c *ConsumerConfig) { c.Patience = patience })
			p := f.producer(0, 0)
			var head []byte
			opened := make(chan *Reader, 1)
			if !tc.killedBefore {
				fill(t, p, data)
				finish(t, p)
				r := open(t, c, 0)
				head = make([]byte, tc.read)
				if _, err := io.ReadFull(r, head); err != nil {
					t.Fatal(err)
				}
				opened <- r
			} else {
				go func() {
					r, err := c.Open(t.Context(), 0)
					if err != nil {
						t.Error(err)
					}
					opened <- r
				}()
			}
			f.kill("producer-0-0")
			p1 := f.producer(0, 1)
			fill(t, p1, tc.second)
			finish(t, p1)
			r := <-opened
			rest, err := io.ReadAll(r)
			if tc.restart {
				re, ok := errors.AsType[*RestartError](err)
				if !ok || re.Was != 0 || re.Now != 1 {
					t.Fatalf("got %v, want a RestartError", err)
				}
				mustRead(t, c, 0, tc.second)
			} else if err != nil || !bytes.Equal(append(head, rest...), tc.second) || r.Source() != (Source{0, 1, PathDirect}) {
				t.Fatalf("%d bytes from %v, error %v", len(head)+len(rest), r.Source(), err)
			}
			mustAck(t, c)
			if r := wait(t, p1); r.Acked != 1 {
				t.Errorf("report %+v", r)
			}
		})
	}
}

func TestLateCommitIsPickedUp(t *testing.T) {
	f := newFixture(t, Auto, 1, 1)
	c := f.consumer(0, 0, func(c *ConsumerConfig) { c.Patience = patience })
	f.producer(0, 0)
	opened := make(chan *Reader)
	go func() {
		r, err := c.Open(t.Context(), 0)
		if err != nil {
			t.Error(err)
		}
		opened <- r
	}()
	f.kill("producer-0-0")
	p := f.producer(0, 1, func(c *ProducerConfig) { c.Mode, c.Network = S3, nil }) // it has no network any more
	fill(t, p, []byte("by S3"))
	finish(t, p)
	r := <-opened
	if b, err := io.ReadAll(r); err != nil || string(b) != "by S3" || r.Source() != (Source{0, 1, PathS3}) {
		t.Fatalf("%q from %v, %v", b, r.Source(), err)
	}
}

// onPut calls f before each PutObject of a key with the suffix.
func onPut(suffix string, f func() error) func(*s3.Options) {
	return func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("TestOnPut",
				func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
					if put, ok := in.Parameters.(*s3.PutObjectInput); ok && strings.HasSuffix(aws.ToString(put.Key), suffix) {
						if err := f(); err != nil {
							return middleware.InitializeOutput{}, middleware.Metadata{}, err
						}
					}
					return next.HandleInitialize(ctx, in)
				}), middleware.Before)
		})
	}
}

func TestProducerDiesBetweenDataAndCommit(t *testing.T) {
	f := newFixture(t, Auto, 1, 1)
	dead := make(chan struct{})
	var p *Producer
	f.store.Client = s3.New(f.store.Client.Options(), onPut("/commit", func() error {
		p.cancel()
		close(dead)
		return errors.New("killed")
	}))
	c := f.consumer(0, 0)
	p = f.producer(0, 0, func(c *ProducerConfig) { c.Policy.TimeToSync = time.Nanosecond })
	fill(t, p, bytesOf(1000, "x"))
	if err := p.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-dead
	f.kill("producer-0-0")
	if keys := f.keys(); len(keys) != 1 || !strings.HasPrefix(keys[0], dataPrefix("job/1", 0, 0)) {
		t.Fatalf("objects %v", keys)
	}
	_, err := c.Open(within(t), 0)
	wantLost(t, err, 0)
	if _, err := p.Wait(t.Context()); err == nil {
		t.Error("the producer does not say that its data is lost")
	}
	f.store = &S3Store{Client: s3.New(f.store.Client.Options(), func(o *s3.Options) { o.APIOptions = nil }), Bucket: f.store.Bucket, Prefix: f.store.Prefix}
	p1 := f.producer(0, 1, func(c *ProducerConfig) { c.Policy = Policy{} })
	fill(t, p1, bytesOf(1000, "x"))
	finish(t, p1)
	mustRead(t, c, 0, bytesOf(1000, "x"))
}

func TestProducerDiesAfterItsSync(t *testing.T) {
	f := newFixture(t, Auto, 1, 1)
	p := f.producer(0, 0, func(c *ProducerConfig) { c.Policy = Policy{TimeToSync: 0, TimeToLive: Never} })
	data := bytesOf(500_000, "x")
	fill(t, p, data)
	finish(t, p) // durable from here on
	f.kill("producer-0-0")
	c := f.consumer(0, 0)
	if src := mustRead(t, c, 0, data); src.Path != PathS3 {
		t.Errorf("read from %v", src)
	}
}

func TestConsumerDiesAndAnotherTakesItsPlace(t *testing.T) {
	f := newFixture(t, Auto, 1, 2)
	p := f.producer(0, 0)
	c0, c1 := f.consumer(0, 0), f.consumer(1, 0)
	a, b := bytesOf(6<<20, "a"), bytesOf(100_000, "b")
	fill(t, p, a, b)
	finish(t, p)
	mustRead(t, c1, 0, b)
	mustAck(t, c1)
	r := open(t, c0, 0)
	if _, err := io.ReadFull(r, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	// The next attempt has a link already when the first one dies, so nothing
	// has to be written.
	again := f.consumer(0, 1)
	second := open(t, again, 0)
	f.kill("consumer-0-0")
	got, err := io.ReadAll(second)
	if err != nil || !bytes.Equal(got, a) || second.Source().Path != PathDirect {
		t.Fatalf("%d bytes of %d from %v, error %v", len(got), len(a), second.Source(), err)
	}
	if rep := p.Report(); rep.Sync != SyncNone || rep.Acked != 1 {
		t.Errorf("report %+v", rep)
	}
	mustAck(t, again)
	if rep := wait(t, p); rep.Acked != 2 || rep.Sync != SyncNone {
		t.Errorf("report %+v", rep)
	}
}

func TestConsumerDiesAloneAndTheProducerSyncs(t *testing.T) {
	f := newFixture(t, Auto, 1, 1)
	p := f.producer(0, 0)
	c := f.consumer(0, 0)
	fill(t, p, bytesOf(100_000, "a"))
	finish(t, p)
	mustRead(t, c, 0, bytesOf(100_000, "a"))
	f.kill("consumer-0-0")
	if r := wait(t, p); r.Sync != SyncLink || !r.Synced || r.Acked != 0 {
		t.Errorf("report %+v", r)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	mustRead(t, f.consumer(0, 1), 0, bytesOf(100_000, "a"))
}

func TestAckReachesAProducerWhoseLinkBroke(t *testing.T) {
	f := newFixture(t, Auto, 1, 1)
	p := f.producer(0, 0, func(c *ProducerConfig) { c.Mode, c.Store = Direct, nil })
	c := f.consumer(0, 0)
	fill(t, p, []byte("x"))
	finish(t, p)
	mustRead(t, c, 0, []byte("x"))
	c.mu.Lock()
	for l := range c.links {
		l.(*testLink).cut()
	}
	c.mu.Unlock()
	mustAck(t, c)
	if r := wait(t, p); r.Acked != 1 {
		t.Errorf("report %+v", r)
	}
	if r := c.Report(); len(r.Acked) != 1 {
		t.Errorf("report %+v", r)
	}
}

func TestAckReachesAnAttemptThatJoinsLater(t *testing.T) {
	f := newFixture(t, Direct, 1, 1)
	p := f.producer(0, 0)
	c := f.consumer(0, 0)
	fill(t, p, []byte("x"))
	finish(t, p)
	mustRead(t, c, 0, []byte("x"))
	mustAck(t, c)
	wait(t, p)
	zombie := f.producer(0, 1)
	fill(t, zombie, []byte("x"))
	finish(t, zombie)
	if r := wait(t, zombie); r.Acked != 1 || r.Direct.Requests != 0 {
		t.Errorf("report %+v", r)
	}
}

func TestSlowS3IsTriedAgain(t *testing.T) {
	f := newFixture(t, S3, 1, 1)
	var n atomic.Int32
	f.store.Client = s3.New(f.store.Client.Options(), onPut(".data", func() error {
		if n.Add(1) <= 2 {
			return errors.New("connection reset")
		}
		return nil
	}))
	p := f.producer(0, 0)
	fill(t, p, []byte("x"))
	finish(t, p)
	if n.Load() != 3 {
		t.Errorf("%d writes", n.Load())
	}
	mustRead(t, f.consumer(0, 0), 0, []byte("x"))
}

func TestMissingBucketIsOneClearError(t *testing.T) {
	f := newFixture(t, S3, 1, 1)
	f.store.Bucket = "exchange-no-such-bucket"
	p := f.producer(0, 0)
	fill(t, p, []byte("x"))
	err := p.Finish(within(t))
	if se, ok := errors.AsType[*StoreError](err); !ok || !strings.HasPrefix(se.Key, "exchange-no-such-bucket/") {
		t.Errorf("finish: %v", err)
	}
	_, err = p.Wait(within(t))
	if _, ok := errors.AsType[*UnsavedError](err); !ok {
		t.Errorf("wait: %v", err)
	}
	_, err = f.consumer(0, 0).Open(within(t), 0)
	if _, ok := errors.AsType[*StoreError](err); !ok {
		t.Errorf("open: %v", err)
	}
}
