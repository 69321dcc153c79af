package task

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/bradawl/bradawl/client"
	"github.com/bradawl/bradawl/lambdaclient"
	"github.com/bradawl/bradawl/lambdaclient/exchange"
	"github.com/bradawl/bradawl/mapreduce-demo/jobs"
	"github.com/bradawl/bradawl/mapreduce-demo/mapreduce"
	"github.com/bradawl/bradawl/mapreduce-demo/store"
)

// keepAlive is the interval of keep-alives on links: a lost one is noticed after
// two and a half of them. A waiting function is paid for by the millisecond, a
// keep-alive is a packet of 30 bytes; much less, and a busy machine loses links
// that are there.
const keepAlive = 2 * time.Second

// Main serves invocations and never returns. S3 is used as the SDK's ordinary
// environment variables say.
func Main() {
	w := &worker{out: os.Stdout}
	lambdaclient.Start(w.handle)
}

// worker is one execution environment.
type worker struct {
	mu  sync.Mutex // guards out
	out io.Writer  // the function's log
	s3  *s3.Client // made at the first invocation
}

// handle runs one task. It answers failures of the task as a Report; an error
// of its own means that the invocation made no sense.
func (w *worker) handle(ctx context.Context, session *lambdaclient.Session, p Payload) (Report, error) {
	if err := p.check(); err != nil {
		return Report{}, err
	}
	job, err := jobs.Lookup(p.Job)
	if err != nil {
		return Report{}, fmt.Errorf("%w: %w", ErrPayload, err)
	}
	if w.s3 == nil {
		cfg, err := config.LoadDefaultConfig(ctx)
		if err != nil {
			return Report{}, fmt.Errorf("configure S3: %w", err)
		}
		w.s3 = s3.NewFromConfig(cfg)
	}
	// The next invocation of this environment is another peer.
	defer session.SignOut()
	t := &running{
		Payload: p, worker: w, session: session, job: job,
		store:  store.New(w.s3, p.Bucket),
		report: Report{ID: p.ID, Cold: session.ColdStart()},
		begin:  time.Now(),
	}
	if err = t.pass(ctx, Started); err == nil {
		if p.Kind == Map {
			err = t.runMap(ctx)
		} else {
			err = t.runReduce(ctx)
		}
	}
	t.report.S3 = t.store.Usage()
	t.report.Total = time.Since(t.begin)
	if err != nil {
		t.report.Failure = failure(err)
	}
	return t.report, nil
}

// running is one task at work.
type running struct {
	Payload
	worker  *worker
	session *lambdaclient.Session
	job     mapreduce.Runner
	store   *store.Store
	report  Report
	begin   time.Time
}

// failure says what the driver has to know about an error.
func failure(err error) *Failure {
	f := &Failure{Message: err.Error()}
	var lost *exchange.LostError
	if errors.As(err, &lost) {
		f.Lost = &Lost{Producer: lost.Producer, Attempts: lost.Attempts}
	}
	var link *exchange.LinkError
	if errors.As(err, &link) {
		// The producer is there, but not for this consumer. Another environment has another NAT; and a next attempt of the
		// consumer must not wait for a producer that it may not even see.
		f.Lost = &Lost{Producer: link.Producer}
	}
	f.Final = errors.Is(err, mapreduce.ErrJob)
	return f
}

// tell writes an event into the function's log.
func (t *running) tell(e Event) {
	e.ID, e.Run = t.ID, t.Run
	t.worker.mu.Lock()
	defer t.worker.mu.Unlock()
	fmt.Fprintln(t.worker.out, e.line())
}

// pass tells that the task has come to a point, and waits there if it is to hold.
func (t *running) pass(ctx context.Context, at Point) error {
	hold := t.holds(at)
	t.tell(Event{At: at, Held: hold})
	if !hold {
		return nil
	}
	return t.await(ctx, ReleaseKey(t.Run, t.Kind, t.Index, at), holdEvery)
}

// holdEvery is how often a task that holds looks whether it is released.
const holdEvery = 20 * time.Millisecond

// await looks for an object, at first after one interval, until it is there.
func (t *running) await(ctx context.Context, key string, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		// S3 may be out of reach for a while: an error is no end of the wait.
		if there, _ := t.store.Exists(ctx, key); there {
			return nil
		}
	}
}

// shuffle describes the exchange, the same for all tasks of the run.
func (t *running) shuffle() exchange.Shuffle {
	return exchange.Shuffle{
		Job: t.Run, Collective: "shuffle",
		Producers: t.Mappers, Consumers: t.Reducers,
		ProducerRole: string(Map), ConsumerRole: string(Reduce),
	}
}

func (t *running) exchangeStore() *exchange.S3Store {
	return &exchange.S3Store{Client: t.worker.s3, Bucket: t.Bucket}
}

// signIn joins the run's group, unless the shuffle needs no links.
func (t *running) signIn(ctx context.Context) (exchange.Network, error) {
	if t.Mode == exchange.S3 {
		return nil, nil
	}
	start := time.Now()
	c, err := t.session.SignIn(ctx, client.Config{
		URL: string(t.Rendezvous), Group: t.Run, Name: t.ID.String(), Role: string(t.Kind),
		Agent: "mapreduce", KeepAlive: keepAlive,
	})
	t.report.Phases.SignIn = time.Since(start)
	if err != nil {
		return nil, err
	}
	return exchange.Over(c), nil
}
