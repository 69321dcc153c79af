package exchange

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// saveSteps are the moments of a save at which something may happen to a
// producer, with the options that catch them. A hook's error is what the
// producer sees of its request.
func saveSteps() []struct {
	name  string
	hook  func(f func() error) func(*s3.Options)
	saved bool // the record is there
} {
	return []struct {
		name  string
		hook  func(f func() error) func(*s3.Options)
		saved bool
	}{
		{"before its data", func(f func() error) func(*s3.Options) { return onPut(".data", f) }, false},
		{"after its data", func(f func() error) func(*s3.Options) { return afterPut(".data", f) }, false},
		{"before its record", func(f func() error) func(*s3.Options) { return onPut("/commit", f) }, false},
		{"after its record", func(f func() error) func(*s3.Options) { return afterPut("/commit", f) }, true},
	}
}

// drive reads one producer to its end as a driver would: where the producer is
// lost it runs it again, once.
func (f *fixture) drive(c *Consumer, again func(*LostError)) []byte {
	f.t.Helper()
	for range 2 {
		r, err := c.Open(within(f.t), 0)
		var b []byte
		if err == nil {
			b, err = io.ReadAll(r)
		}
		if err == nil {
			return b
		}
		lost, ok := errors.AsType[*LostError](err)
		if !ok {
			f.t.Fatal(err)
		}
		again(lost)
	}
	f.t.Fatal("the producer is lost again")
	return nil
}

func TestAProducerMayDieAtEveryStepOfItsSave(t *testing.T) {
	for _, step := range saveSteps() {
		t.Run(step.name, func(t *testing.T) {
			f := newFixture(t, Auto, 1, 2)
			dead := make(chan struct{})
			var once sync.Once
			var p *Producer
			sound := f.store
			f.store = &S3Store{Bucket: sound.Bucket, Prefix: sound.Prefix}
			f.store.Client = s3.New(sound.Client.Options(), step.hook(func() error {
				once.Do(func() {
					p.cancel()
					f.kill("producer-0-0")
					close(dead)
				})
				return errors.New("killed")
			}))
			early := f.consumer(0, 0)
			p = f.producer(0, 0, func(c *ProducerConfig) { c.Policy = Policy{TimeToSync: time.Nanosecond, TimeToLive: Never} })
			data := [][]byte{bytesOf(300_000, "0"), bytesOf(70_000, "1")}
			fill(t, p, data...)
			if err := p.Finish(t.Context()); err != nil {
				t.Fatal(err)
			}
			<-dead
			f.store = sound
			reruns := 0
			again := func(lost *LostError) {
				reruns++
				next := f.producer(0, reruns, func(c *ProducerConfig) {
					c.Policy, c.Replaces = Policy{TimeToLive: Never}, lost.Attempts
				})
				fill(t, next, data...)
				finish(t, next)
			}
			late := f.consumer(1, 0)
			for i, c := range []*Consumer{early, late} {
				if got := f.drive(c, again); !bytes.Equal(got, data[i]) {
					t.Errorf("consumer %d has %d bytes that differ from the %d written", i, len(got), len(data[i]))
				}
			}
			if want := map[bool]int{false: 1}[step.saved]; reruns != want {
				t.Errorf("the producer ran again %d times, want %d", reruns, want)
			}
			if r := f.record(0); len(r.Partitions) != 2 || r.Attempt != reruns {
				t.Errorf("record %+v after %d runs more", r, reruns)
			}
		})
	}
}

func TestAProducerThatComesBackAtEveryStepOfItsSaveDoesNoHarm(t *testing.T) {
	for _, step := range saveSteps() {
		t.Run(step.name, func(t *testing.T) {
			f := newFixture(t, S3, 1, 2)
			frozen, thaw := make(chan struct{}), make(chan struct{})
			var once sync.Once
			sound := f.store
			f.store = &S3Store{Bucket: sound.Bucket, Prefix: sound.Prefix}
			f.store.Client = s3.New(sound.Client.Options(), step.hook(func() error {
				once.Do(func() { close(frozen); <-thaw })
				return nil
			}))
			zombie := f.producer(0, 0)
			fill(t, zombie, bytesOf(300_000, "zombie"), bytesOf(70_000, "zombie"))
			back := make(chan error)
			go func() { back <- zombie.Finish(t.Context()) }()
			<-frozen
			// It is thought dead, and its place taken.
			f.store = sound
			next := f.producer(0, 1, func(c *ProducerConfig) { c.Replaces = []int{0} })
			data := [][]byte{bytesOf(200_000, "0"), bytesOf(80_000, "1")}
			fill(t, next, data...)
			finish(t, next)
			before := f.record(0)
			r := open(t, f.consumer(0, 0), 0)
			head := make([]byte, 1000)
			if _, err := io.ReadFull(r, head); err != nil {
				t.Fatal(err)
			}
			close(thaw)
			if err := <-back; err != nil {
				t.Errorf("the zombie: %v", err)
			}
			if after := f.record(0); after.Attempt != 1 || after.Key != before.Key {
				t.Errorf("the zombie replaced the record %+v by %+v", before, after)
			}
			rest, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(append(head, rest...), data[0]) {
				t.Errorf("the read under way: %d bytes, %v", len(head)+len(rest), err)
			}
			if src := mustRead(t, f.consumer(1, 0), 0, data[1]); src.Attempt != 1 {
				t.Errorf("read from %v", src)
			}
		})
	}
}
