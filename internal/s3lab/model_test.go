package s3lab

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

func TestLatenciesHaveThePercentilesThatTheyShall(t *testing.T) {
	t.Parallel()
	const seed, n = 1, 100_000
	t.Logf("seed %d", seed)
	for name, l := range map[string]Latency{"put": Published().Put, "get": Published().Get, "constant": {P50: time.Second, P99: time.Second}} {
		r := rand.New(rand.NewPCG(seed, 0))
		list := make([]time.Duration, n)
		for i := range list {
			list[i] = l.sample(r)
		}
		slices.Sort(list)
		for _, c := range []struct{ got, want time.Duration }{{list[n/2], l.P50}, {list[n*99/100], l.P99}} {
			if off := float64(c.got-c.want) / float64(c.want); off < -0.03 || off > 0.03 {
				t.Errorf("%s: %v, want %v", name, c.got, c.want)
			}
		}
	}
	if d := (Latency{}).sample(nil); d != 0 {
		t.Errorf("no latency is %v", d)
	}
}

func TestARequestCountsForItsPrefix(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		path  string
		depth int
		want  string
	}{
		{"/bucket/a/b/c", 0, "bucket"}, {"/bucket/a/b/c", 1, "bucket/a"}, {"/bucket/a/b/c", 2, "bucket/a/b"}, {"/bucket/a/b/c", 9, "bucket/a/b"},
		{"/bucket/a", 1, "bucket"}, {"/bucket", 1, "bucket"}, {"/", 1, ""},
	} {
		if got := prefixOf(tc.path, tc.depth); got != tc.want {
			t.Errorf("%s at depth %d: %q, want %q", tc.path, tc.depth, got, tc.want)
		}
	}
}

func TestAPrefixTakesItsRateAndNoMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShaper(&Model{PutRate: 10, GetRate: 20, PrefixDepth: 1})
		admitted := func(op, path string, n int) (took int) {
			for range n {
				if _, ok := s.admit(op, path); ok {
					took++
				}
			}
			return took
		}
		for _, tc := range []struct {
			op, path string
			want     int
		}{
			{"PutObject", "/b/x/1", 10}, {"ListObjectsV2", "/b/x/1", 0}, {"UploadPart", "/b/y/1", 10},
			{"GetObject", "/b/x/1", 20}, {"HeadObject", "/b/x/2", 0}, {"DeleteObject", "/b/y/2", 20},
		} {
			if got := admitted(tc.op, tc.path, 50); got != tc.want {
				t.Errorf("%s of %s: %d of 50, want %d", tc.op, tc.path, got, tc.want)
			}
		}
		time.Sleep(time.Second / 2)
		if got := admitted("PutObject", "/b/x/3", 50); got != 5 {
			t.Errorf("after half a second: %d", got)
		}
	})
}

func TestBandwidthIsABurstAndThenARate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBandwidth(Published().Bandwidth)
		start := time.Now()
		move := func(bytes int) time.Duration {
			for ; bytes > 0; bytes -= slice {
				b.take(slice)
			}
			return time.Since(start)
		}
		// 310 MB and what is refilled meanwhile, at 1.25 GB/s.
		if d := move(300e6); d < 200*time.Millisecond || d > 260*time.Millisecond {
			t.Errorf("the burst took %v", d)
		}
		move(40e6) // the rest of it
		start = time.Now()
		if d := move(78e6); d < 950*time.Millisecond || d > 1050*time.Millisecond {
			t.Errorf("78 MB more took %v", d)
		}
	})
}

func TestWithoutAModelTheServerIsAsItWas(t *testing.T) {
	t.Parallel()
	srv := startServer(t, Config{})
	createBucket(t, srv.Client())
	if s := statsOf(t, srv); s.Model != "off" {
		t.Errorf("the model is %q", s.Model)
	}
}

func TestAModelledServerSlowsDownAndIsLateAndPaced(t *testing.T) {
	t.Parallel()
	late := Latency{P50: 30 * time.Millisecond, P99: 30 * time.Millisecond}
	srv := startServer(t, Config{Model: &Model{Get: late, PutRate: 2, Bandwidth: Bandwidth{Burst: slice, Sustained: 4 << 20}}})
	c := srv.Client()
	createBucket(t, c) // the first of the burst of two
	if s := statsOf(t, srv); !strings.HasPrefix(s.Model, "on (") {
		t.Errorf("the model is %q", s.Model)
	}
	start := time.Now()
	put(t, c, "key", pattern(1<<20))
	if took := time.Since(start); took < 200*time.Millisecond { // 1 MiB at 4 MiB/s
		t.Errorf("the PUT took %v", took)
	}
	start = time.Now()
	get(t, c, "key", "")
	if took := time.Since(start); took < 230*time.Millisecond {
		t.Errorf("the GET took %v", took)
	}
	once := s3.New(c.Options(), func(o *s3.Options) { o.RetryMaxAttempts = 1 })
	slow := false
	for i := 0; i < 200 && !slow; i++ {
		_, err := once.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String("k"), Body: strings.NewReader("x")})
		if err != nil {
			if got := status(t, err); got != http.StatusServiceUnavailable || !strings.Contains(err.Error(), "SlowDown") {
				t.Fatalf("status %d: %v", got, err)
			}
			slow = true
		}
	}
	if !slow || statsOf(t, srv).Operations["PutObject"].Errors[503] == 0 {
		t.Errorf("200 PUTs in a row on a prefix that takes 2 per second: %+v", statsOf(t, srv))
	}
}

func TestInjectedFaultsSpoilTheRequestsThatTheyFit(t *testing.T) {
	t.Parallel()
	srv := startServer(t, Config{})
	c := srv.Client()
	createBucket(t, c)
	for _, f := range []Fault{
		{Operation: "PutObject", Path: "/key", Count: 2, Status: 503},
		{Operation: "GetObject", Count: 1, Status: 500},
		{Operation: "HeadObject", Count: 1, Delay: 50 * time.Millisecond},
	} {
		if err := srv.Inject(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	put(t, c, "other", pattern(10))
	put(t, c, "key", pattern(1<<20)) // the SDK tries three times
	get(t, c, "key", "")
	start := time.Now()
	if _, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String("key")}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 50*time.Millisecond {
		t.Errorf("the HEAD took %v", took)
	}
	s := statsOf(t, srv)
	if p, g := s.Operations["PutObject"], s.Operations["GetObject"]; p.Requests != 4 || p.Errors[503] != 2 || g.Requests != 2 || g.Errors[500] != 1 {
		t.Errorf("%+v", s)
	}
	for _, f := range []Fault{{}, {Count: 1, Status: 404}, {Count: 1, Delay: -1}} {
		if srv.Inject(t.Context(), f) == nil {
			t.Errorf("%+v is taken", f)
		}
	}
	srv.Kill()
	if err := srv.Inject(t.Context(), Fault{Count: 1}); err != ErrStopped {
		t.Errorf("after Kill: %v", err)
	}
}

func TestModelsThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	for _, m := range []Model{
		{Put: Latency{P50: 2, P99: 1}}, {Get: Latency{P99: 1}}, {PutRate: -1}, {PrefixDepth: -1},
		{Bandwidth: Bandwidth{Burst: 1}}, {Bandwidth: Bandwidth{Sustained: 1}},
	} {
		if _, err := Start(t.Context(), Config{Dir: t.TempDir(), Model: &m}); err == nil {
			t.Errorf("%+v is taken", m)
		}
	}
	if err := (*Model)(nil).check(); err != nil {
		t.Error(err)
	}
}
