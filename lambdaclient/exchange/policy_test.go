package exchange

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/bradawl/bradawl/lambdaclient/price"
)

// costly has prices that are easy to reckon with.
func costly(p Policy) Policy {
	p.Costs = Costs{MemoryMB: 1024, Rates: price.Rates{LambdaGBSecond: 1e-5, S3Put: 5e-6, S3Get: 1e-7, TransferGB: 0.01}}
	return p
}

func TestDecide(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	const sec = time.Second
	// A fresh situation one second after Finish: two consumers, both linked.
	fresh := func() situation {
		return situation{now: at(sec), began: at(-10 * sec), finished: start, mode: Auto, rate: 10e6, unacked: 2, unackedBytes: 50e6, bytes: 50e6, hopeful: 2,
			policy: Policy{TimeToSync: 5 * sec, TimeToLive: 60 * sec}}
	}
	auto := Policy{TimeToSync: Never, TimeToLive: Never, Auto: true, Loss: Loss{PerHour: -1}}
	cases := []struct {
		name   string
		change func(*situation)
		want   decision
	}{
		{"waits for time-to-sync", func(*situation) {}, decision{at: at(5 * sec)}},
		{"syncs then", func(s *situation) { s.now = at(5 * sec) }, decision{step: stepSync, cause: SyncTimeToSync}},
		{"while it syncs it waits", func(s *situation) { s.now, s.syncing = at(9*sec), true }, decision{}},
		{"synced, it lives on", func(s *situation) { s.now, s.synced = at(6*sec), true }, decision{at: at(60 * sec)}},
		{"and leaves at the end of its life", func(s *situation) { s.now, s.synced = at(60*sec), true }, decision{step: stepLeave}},
		{"synced, nobody to come over a link", func(s *situation) { s.synced, s.hopeful = true, 0 }, decision{step: stepLeave}},
		{"all acknowledged", func(s *situation) { s.unacked, s.unackedBytes, s.hopeful = 0, 0, 0 }, decision{step: stepLeave}},
		{"all acknowledged during the write", func(s *situation) { s.unacked, s.syncing = 0, true }, decision{}},
		{"write-through", func(s *situation) { s.now, s.policy.TimeToSync = start, 0 }, decision{step: stepSync, cause: SyncWriteThrough}},
		{"mode s3", func(s *situation) { s.mode, s.policy.TimeToSync = S3, Never }, decision{step: stepSync, cause: SyncWriteThrough}},
		{"mode s3, synced", func(s *situation) { s.mode, s.synced = S3, true }, decision{step: stepLeave}},
		{"broken link", func(s *situation) { s.broken, s.hopeful = true, 1 }, decision{step: stepSync, cause: SyncLink}},
		{"never syncs, lives forever", func(s *situation) { s.policy = Policy{TimeToSync: Never, TimeToLive: Never} }, decision{}},
		{"never syncs before its life ends", func(s *situation) { s.policy.TimeToSync = Never }, decision{at: at(60 * sec)}},
		{"but then", func(s *situation) { s.policy.TimeToSync, s.now = Never, at(61*sec) }, decision{step: stepSync, cause: SyncTimeToLive}},
		// 50 MB at 10 MB/s take 5 s, the margin is 2 s.
		{"deadline far", func(s *situation) { s.policy.TimeToSync, s.deadline = Never, at(20*sec) }, decision{at: at(13 * sec)}},
		{"deadline later than time-to-sync", func(s *situation) { s.deadline = at(20 * sec) }, decision{at: at(5 * sec)}},
		{"deadline near", func(s *situation) { s.deadline = at(8 * sec) }, decision{step: stepSync, cause: SyncDeadline}},
		{"deadline with less to write", func(s *situation) { s.deadline, s.unackedBytes = at(6*sec), 10e6 }, decision{at: at(3 * sec)}},
		{"deadline with the caller's rate", func(s *situation) { s.deadline, s.policy.UploadRate = at(6*sec), 50e6 }, decision{at: at(3 * sec)}},
		{"deadline with the caller's margin", func(s *situation) { s.deadline, s.policy.Margin = at(6*sec+sec/2), sec/2 }, decision{step: stepSync, cause: SyncDeadline}},
		{"synced, stays until near the deadline", func(s *situation) { s.deadline, s.synced = at(8*sec), true }, decision{at: at(7 * sec)}},
		{"synced, leaves near the deadline", func(s *situation) { s.deadline, s.synced, s.now = at(8*sec), true, at(7*sec) }, decision{step: stepLeave}},
		// 1 GB costs 1e-5 $/s. A write of 50 MB: 9 PUTs (6 parts, 2 calls, the record), 4 GETs and 5 s, 9.54e-5 $ in all.
		{"cost threshold far", func(s *situation) {
			s.policy = costly(Policy{TimeToSync: Never, TimeToLive: Never, CostThreshold: 3e-4})
		}, decision{at: at(20 * sec)}},
		{"cost threshold later than time-to-sync", func(s *situation) {
			s.policy = costly(Policy{TimeToSync: 5 * sec, TimeToLive: Never, CostThreshold: 3e-4})
		}, decision{at: at(5 * sec)}},
		{"cost threshold reached", func(s *situation) {
			s.now, s.policy = at(20*sec), costly(Policy{TimeToSync: Never, TimeToLive: Never, CostThreshold: 3e-4})
		}, decision{step: stepSync, cause: SyncCost}},
		{"cost threshold reached before the finish", func(s *situation) {
			s.now, s.policy = start, costly(Policy{TimeToSync: Never, TimeToLive: Never, CostThreshold: 1e-4})
		}, decision{step: stepSync, cause: SyncCost}},
		{"cost threshold, what the work depends on included", func(s *situation) {
			s.policy = costly(Policy{TimeToSync: Never, TimeToLive: Never, CostThreshold: 3e-4})
			s.policy.Costs.Depends = 1e-4
		}, decision{at: at(10 * sec)}},
		{"cost threshold that dependencies alone reach", func(s *situation) {
			s.policy = costly(Policy{TimeToSync: Never, TimeToLive: Never, CostThreshold: 3e-4})
			s.policy.Costs.Depends = 1
		}, decision{step: stepSync, cause: SyncCost}},
		{"auto waits until the waiting has cost as much", func(s *situation) { s.policy = costly(auto) }, decision{at: at(9540 * time.Millisecond)}},
		{"auto writes then", func(s *situation) { s.now, s.policy = at(9540*time.Millisecond), costly(auto) }, decision{step: stepSync, cause: SyncWaited}},
		{"auto has less to write, and waits less", func(s *situation) { s.policy, s.unacked, s.unackedBytes = costly(auto), 1, 25e6 }, decision{at: at(5520 * time.Millisecond)}},
		{"auto with time-to-sync before", func(s *situation) { s.policy = costly(auto); s.policy.TimeToSync = 4 * sec }, decision{at: at(4 * sec)}},
		{"auto with charged transfer writes at once", func(s *situation) { s.policy = costly(auto); s.policy.Costs.Rates.TransferCharged = true }, decision{step: stepSync, cause: SyncTransfer}},
		{"auto with much to lose", func(s *situation) {
			s.policy = costly(auto)
			s.policy.Costs.Depends, s.policy.Loss.PerHour = 100, 36
			s.now = at(sec)
		}, decision{step: stepSync, cause: SyncLoss}},
		{"auto, announced in time", func(s *situation) { s.policy, s.expected = costly(auto), at(9*sec) }, decision{at: at(9540 * time.Millisecond)}},
		{"auto, announced in time, from now on", func(s *situation) { s.policy, s.expected, s.now = costly(auto), at(15*sec), at(9*sec) }, decision{at: at(15 * sec)}},
		{"auto, announced too late", func(s *situation) { s.policy, s.expected = costly(auto), at(11*sec) }, decision{step: stepSync, cause: SyncExpected}},
		{"auto, announced, and nobody came", func(s *situation) { s.policy, s.expected, s.now = costly(auto), at(9*sec), at(10*sec) }, decision{step: stepSync, cause: SyncWaited}},
		{"auto, deadline before", func(s *situation) { s.policy, s.deadline = costly(auto), at(12*sec) }, decision{at: at(5 * sec)}},
		{"auto leaves when it has written", func(s *situation) { s.policy, s.synced = costly(auto), true }, decision{step: stepLeave}},
		{"auto is no mode direct's affair", func(s *situation) {
			s.mode, s.policy = Direct, costly(auto)
			s.policy.TimeToLive = 60 * sec
			s.now = at(50 * sec)
		}, decision{at: at(60 * sec)}},
		{"failed write waits", func(s *situation) { s.broken, s.syncTries, s.retryAt = true, 1, at(2*sec) }, decision{at: at(2 * sec)}},
		{"failed write again", func(s *situation) { s.broken, s.syncTries, s.retryAt = true, 1, at(sec) }, decision{step: stepSync, cause: SyncLink}},
		{"failed for good, lives on", func(s *situation) { s.broken, s.permanent = true, true }, decision{at: at(60 * sec)}},
		{"failed too often, leaves in the end", func(s *situation) { s.syncTries, s.now = maxSyncTries, at(60*sec) }, decision{step: stepLeave}},
		{"direct never syncs", func(s *situation) { s.mode, s.broken, s.now = Direct, true, at(30*sec) }, decision{at: at(60 * sec)}},
		{"direct leaves at the end of its life", func(s *situation) { s.mode, s.now = Direct, at(60*sec) }, decision{step: stepLeave}},
		{"direct leaves before its deadline", func(s *situation) { s.mode, s.deadline, s.now = Direct, at(8*sec), at(7*sec) }, decision{step: stepLeave}},
		{"direct looks again before its deadline", func(s *situation) { s.mode, s.deadline = Direct, at(8*sec) }, decision{at: at(7 * sec)}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := fresh()
			tc.change(&s)
			if got := decide(&s); got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

// silent is a network on which nothing comes.
type silent struct{}

func (silent) join(context.Context, Shuffle) (collective, error) { return silent{}, nil }
func (silent) next(ctx context.Context) (linkEvent, error) {
	<-ctx.Done()
	return linkEvent{}, ctx.Err()
}
func (silent) accept(ctx context.Context) (link, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
func (silent) connect(context.Context, string) (link, error) { return nil, errNoPeer }
func (silent) leave() error                                  { return nil }

// The clock of these tests is synctest's, so instants are exact. The S3 server
// is a real one; the clock stands still while it works.
func TestPolicyKeepsItsInstants(t *testing.T) {
	const sec = time.Second
	cases := []struct {
		name     string
		policy   Policy
		deadline time.Duration // from Finish; 0: none
		bytes    int
		synced   time.Duration
		cause    SyncCause
		left     time.Duration
	}{
		{"time-to-sync, then time-to-live", Policy{TimeToSync: 3 * sec, TimeToLive: 10 * sec}, 0, 1000, 3 * sec, SyncTimeToSync, 10 * sec},
		{"write-through", Policy{TimeToLive: 10 * sec}, 0, 1000, 0, SyncWriteThrough, 10 * sec},
		{"zero policy", Policy{}, 0, 1000, 0, SyncWriteThrough, 0},
		{"never, until time-to-live", Policy{TimeToSync: Never, TimeToLive: 7 * sec}, 0, 1000, 7 * sec, SyncTimeToLive, 7 * sec},
		// 1 GB costs 1e-5 $/s since the start, which is the finish here; one PUT for the
		// data, one for the record, two GETs, and 0.001 s of upload are 1.021e-5 $.
		{"cost threshold", costly(Policy{TimeToSync: Never, TimeToLive: 10 * sec, CostThreshold: 4e-5}), 0, 1000, 4 * sec, SyncCost, 10 * sec},
		{"auto", costly(Policy{TimeToSync: Never, TimeToLive: 10 * sec, Auto: true, UploadRate: 1e6, Loss: Loss{PerHour: -1}}), 0, 1000, 1021 * sec / 1000, SyncWaited, 1021 * sec / 1000},
		{"auto after time-to-sync", costly(Policy{TimeToSync: sec, TimeToLive: 10 * sec, Auto: true, UploadRate: 1e6, Loss: Loss{PerHour: -1}}), 0, 1000, sec, SyncTimeToSync, sec},
		{"all at once, the deadline first", costly(Policy{TimeToSync: 20 * sec, TimeToLive: 20 * sec, CostThreshold: 1, UploadRate: 1e6}), 10 * sec, 3e6, 5 * sec, SyncDeadline, 9 * sec},
		{"deadline overrules never", Policy{TimeToSync: Never, TimeToLive: Never, UploadRate: 1e6}, 20 * sec, 3e6, 15 * sec, SyncDeadline, 19 * sec},
		{"deadline overrules time-to-sync", Policy{TimeToSync: 18 * sec, TimeToLive: Never, UploadRate: 1e6, Margin: sec}, 20 * sec, 3e6, 16 * sec, SyncDeadline, 19*sec + sec/2},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			st := store(t)
			today := time.Now()
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(today)) // S3 refuses signatures of the year 2000, where the clock starts
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				var synced time.Time
				transport := &http.Transport{DisableKeepAlives: true} // of the bubble, with all its goroutines
				client := s3.New(st.Client.Options(), onPut("/commit", func() error { synced = time.Now(); return nil }),
					func(o *s3.Options) { o.HTTPClient = &http.Client{Transport: transport} })
				p, err := NewProducer(ctx, ProducerConfig{Shuffle: Shuffle{Job: "j", Producers: 1, Consumers: 1}, Mode: Auto,
					Store: &S3Store{Client: client, Bucket: st.Bucket}, Network: silent{}, Policy: tc.policy})
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()
				if _, err := p.Partition(0).Write(make([]byte, tc.bytes)); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				if err := p.Finish(ctx); err != nil {
					t.Fatal(err)
				}
				waitFor := ctx
				if tc.deadline > 0 {
					var cancel context.CancelFunc
					waitFor, cancel = context.WithTimeout(ctx, tc.deadline)
					defer cancel()
				}
				r, err := p.Wait(waitFor)
				if err != nil {
					t.Fatal(err)
				}
				if r.Sync != tc.cause || !r.Synced || synced.Sub(start) != tc.synced || time.Since(start) != tc.left || r.Linger != tc.left ||
					len(r.Decisions) != 1 || r.Decisions[0].Sync != tc.cause || r.Decisions[0].Wait != tc.synced {
					t.Errorf("synced after %v by %q, left after %v: %+v", synced.Sub(start), r.Sync, time.Since(start), r)
				}
			})
		})
	}
}

func TestAnAnnouncementCountsAtOnce(t *testing.T) {
	st := store(t)
	today := time.Now()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(today))
		client := s3.New(st.Client.Options(), func(o *s3.Options) { o.HTTPClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} })
		p, err := NewProducer(t.Context(), ProducerConfig{Shuffle: Shuffle{Job: "j", Producers: 1, Consumers: 1}, Mode: Auto,
			Store: &S3Store{Client: client, Bucket: st.Bucket}, Network: silent{},
			Policy: costly(Policy{TimeToSync: Never, TimeToLive: Never, Auto: true, UploadRate: 1e6, Loss: Loss{PerHour: -1}})})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if _, err := p.Partition(0).Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		if _, ok := p.Decision(0); ok {
			t.Error("there is a decision before Finish")
		}
		start := time.Now()
		if err := p.Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		p.Expect(start.Add(time.Second)) // worth the wait
		synctest.Wait()
		if d, ok := p.Decision(0); !ok || d.Kept != KeptOpen {
			t.Errorf("%v", d)
		}
		p.Expect(start.Add(time.Minute)) // but this is not
		r, err := p.Wait(t.Context())
		if err != nil || r.Sync != SyncExpected || time.Since(start) != 100*time.Millisecond {
			t.Errorf("after %v: %v, %+v", time.Since(start), err, r)
		}
		if _, ok := p.Decision(1); ok {
			t.Error("a partition that there is not is explained")
		}
	})
}

func TestDirectLeavesUnsavedDataWithAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := NewProducer(context.Background(), ProducerConfig{Shuffle: Shuffle{Job: "j", Producers: 1, Consumers: 3}, Mode: Direct,
			Network: silent{}, Policy: Policy{TimeToSync: 0, TimeToLive: time.Minute}})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if _, err := p.Wait(context.Background()); err == nil {
			t.Error("Wait before Finish gave no error")
		}
		start := time.Now()
		if err := p.Finish(context.Background()); err != nil {
			t.Fatal(err)
		}
		_, err = p.Wait(context.Background())
		if ue, ok := errors.AsType[*UnsavedError](err); !ok || len(ue.Partitions) != 3 || time.Since(start) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := NewProducer(context.Background(), ProducerConfig{Shuffle: Shuffle{Job: "j", Producers: 1, Consumers: 1}, Mode: Direct,
			Network: silent{}, Policy: Policy{TimeToLive: Never}})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if err := p.Finish(context.Background()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(context.Background())
		why := errors.New("told to stop")
		time.AfterFunc(time.Second, func() { cancel(why) })
		if _, err := p.Wait(ctx); !errors.Is(err, why) {
			t.Errorf("got %v", err)
		}
	})
}
