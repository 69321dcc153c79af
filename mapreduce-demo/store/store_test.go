package store

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/smithy-go"

	"github.com/bradawl/bradawl/internal/s3lab"
)

func TestMain(m *testing.M) {
	s3lab.Child()
	m.Run()
}

func start(t *testing.T) (*Store, *s3lab.Server) {
	t.Helper()
	server, err := s3lab.Start(t.Context(), s3lab.Config{Dir: filepath.Join(t.TempDir(), "s3")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	s := New(server.Client(), "bucket")
	for range 2 { // the second time it is there already
		if err := s.CreateBucket(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return s, server
}

func TestObjectsAreCommittedOnce(t *testing.T) {
	s, _ := start(t)
	ctx := t.Context()
	for i, text := range []string{"first", "second"} {
		written, err := s.PutOnce(ctx, "out/part", strings.NewReader(text), int64(len(text)))
		if err != nil || written != (i == 0) {
			t.Errorf("%s: written %v, %v", text, written, err)
		}
	}
	body, size, err := s.Get(ctx, "out/part")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if got, err := io.ReadAll(body); err != nil || string(got) != "first" || size != 5 {
		t.Errorf("got %q of %d bytes, %v", got, size, err)
	}
	for key, want := range map[string]bool{"out/part": true, "out/par": false} {
		if there, err := s.Exists(ctx, key); there != want || err != nil {
			t.Errorf("%s: %v, %v", key, there, err)
		}
	}
	for prefix, want := range map[string]bool{"out/": false, "none/": true} {
		if empty, err := s.Empty(ctx, prefix); empty != want || err != nil {
			t.Errorf("%s: %v, %v", prefix, empty, err)
		}
	}
	if err := s.Delete(ctx, "out/part", "out/none"); err != nil {
		t.Error(err)
	}
	if there, err := s.Exists(ctx, "out/part"); there || err != nil {
		t.Errorf("deleted: %v, %v", there, err)
	}
}

func TestReadAtFillsTheRange(t *testing.T) {
	s, _ := start(t)
	if err := s.Put(t.Context(), "k", []byte("0123456789")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		offset int64
		want   string
	}{{0, "0123456789"}, {3, "345"}, {9, "9"}, {4, ""}} {
		got := make([]byte, len(test.want))
		if err := s.ReadAt(t.Context(), "k", test.offset, got); err != nil || string(got) != test.want {
			t.Errorf("at %d: %q, %v", test.offset, got, err)
		}
	}
	if err := s.ReadAt(t.Context(), "k", 8, make([]byte, 5)); err == nil {
		t.Error("a range beyond the end was filled")
	}
}

func TestErrorsAreOneLineAndKeepTheirCause(t *testing.T) {
	s, server := start(t)
	_, _, err := s.Get(t.Context(), "none")
	var api smithy.APIError
	if !errors.As(err, &api) || !strings.Contains(err.Error(), "s3://bucket/none") || strings.Contains(err.Error(), "\n") {
		t.Errorf("missing object: %v", err)
	}
	if err := New(server.Client(), "nobody").Put(t.Context(), "k", nil); err == nil || !strings.HasSuffix(err.Error(), "the bucket does not exist") {
		t.Errorf("missing bucket: %v", err)
	}
	server.Kill()
	if err := s.Put(t.Context(), "k", nil); err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("dead server: %v", err)
	}
}

func TestUsageIsWhatTheServerCounts(t *testing.T) {
	s, server := start(t)
	ctx := t.Context()
	stats, err := server.Stats(ctx)
	if err != nil {
		t.Fatal(err)
	}
	before := s.Usage()
	if err := s.Put(ctx, "k", bytes.Repeat([]byte("x"), 1000)); err != nil {
		t.Fatal(err)
	}
	if err := s.ReadAt(ctx, "k", 10, make([]byte, 300)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Exists(ctx, "none"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutOnce(ctx, "k", strings.NewReader("yy"), 2); err != nil {
		t.Fatal(err)
	}
	after, err := server.Stats(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := Usage{"PutObject": {2, 1002}, "GetObject": {1, 300}, "HeadObject": {1, 0}}
	got := s.Usage().Sub(before)
	if !maps.Equal(got, want) {
		t.Errorf("usage %v, want %v", got, want)
	}
	for op, n := range after.Sub(stats).Operations {
		if int64(n.Requests) != got[op].Requests {
			t.Errorf("%s: the server counts %d, this side %d", op, n.Requests, got[op].Requests)
		}
	}
	sum := Usage{"PutObject": {1, 8}}
	sum.Add(want)
	if sum["PutObject"] != (Count{3, 1010}) || sum["HeadObject"] != (Count{1, 0}) {
		t.Errorf("sum %v", sum)
	}
}
