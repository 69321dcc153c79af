package output

import (
	"errors"
	"io"
	"net/http"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/bradawl/bradawl/internal/s3lab"
	"github.com/bradawl/bradawl/mapreduce-demo/store"
)

func TestMain(m *testing.M) {
	s3lab.Child()
	m.Run()
}

// lossy loses the answers to writes that lose names, after S3 has done them.
type lossy struct {
	lose func(name string) bool
}

var errCut = errors.New("the answer got lost")

// RoundTrip makes the request.
func (l *lossy) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err == nil && req.Method == http.MethodPut && l.lose(path.Base(req.URL.Path)) {
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return nil, errCut
	}
	return resp, err
}

// lossyBucket is a bucket whose answers may get lost, and a list of its keys.
func lossyBucket(t *testing.T, lose func(name string) bool) (Bucket, func() []string) {
	t.Helper()
	server, err := s3lab.Start(t.Context(), s3lab.Config{Dir: filepath.Join(t.TempDir(), "s3")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	client := s3.NewFromConfig(server.AWSConfig(), func(o *s3.Options) {
		o.HTTPClient = &http.Client{Transport: &lossy{lose}}
		o.Retryer = retry.NewStandard(func(r *retry.StandardOptions) { r.MaxAttempts, r.MaxBackoff = 3, time.Millisecond })
	})
	b := Bucket{Store: store.New(client, "bucket"), Prefix: "out"}
	if err := b.Store.CreateBucket(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b, func() (keys []string) {
		list, err := server.Client().ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("bucket")})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range list.Contents {
			keys = append(keys, *o.Key)
		}
		slices.Sort(keys)
		return keys
	}
}

func TestALostAnswerDoesNotFailTheDelivery(t *testing.T) {
	for _, victim := range []string{"part-0", "part-1", "_SUCCESS"} {
		t.Run(victim, func(t *testing.T) {
			lost := 0
			b, keys := lossyBucket(t, func(name string) bool {
				if name == victim {
					lost++
				}
				return name == victim && lost == 1
			})
			if err := b.Deliver(t.Context(), []Part{part("part-0", "x\n"), part("part-1", "")}, "_SUCCESS"); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(keys(), " "); got != "out/_SUCCESS out/part-0 out/part-1" {
				t.Errorf("objects %q", got)
			}
			if lost < 2 {
				t.Errorf("%d tries of %s, want a second one", lost, victim)
			}
		})
	}
}

func TestADeliveryWhoseAnswersAreAllLostLeavesNothing(t *testing.T) {
	for _, victim := range []string{"part-1", "_SUCCESS"} {
		t.Run(victim, func(t *testing.T) {
			b, keys := lossyBucket(t, func(name string) bool { return name == victim })
			if err := b.Deliver(t.Context(), []Part{part("part-0", "x\n"), part("part-1", "y")}, "_SUCCESS"); err == nil {
				t.Fatal("no error")
			}
			if got := keys(); len(got) > 0 {
				t.Errorf("%q stayed behind", got)
			}
		})
	}
}

func TestADeliveryDoesNotTouchWhatOthersWrote(t *testing.T) {
	for name, others := range map[string]string{"another length": "other", "the same length": "z"} {
		t.Run(name, func(t *testing.T) {
			b, keys := lossyBucket(t, func(string) bool { return false })
			if err := b.Store.Put(t.Context(), "out/part-1", []byte(others)); err != nil {
				t.Fatal(err)
			}
			if err := b.Deliver(t.Context(), []Part{part("part-0", "x\n"), part("part-1", "y")}, "_SUCCESS"); err == nil {
				t.Fatal("no error")
			}
			if got := strings.Join(keys(), " "); got != "out/part-1" {
				t.Errorf("objects %q", got)
			}
		})
	}
}
