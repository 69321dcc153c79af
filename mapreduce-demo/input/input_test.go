package input

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// shelf keeps packed objects in memory.
type shelf struct {
	mu      sync.Mutex
	objects map[string][]byte
}

func (s *shelf) put(_ context.Context, key string, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects == nil {
		s.objects = map[string][]byte{}
	}
	s.objects[key] = bytes.Clone(body)
	return nil
}

func (s *shelf) fetch(_ context.Context, r Range, dst []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, ok := s.objects[r.Key]
	if !ok || r.Offset+r.Length > int64(len(body)) {
		return fmt.Errorf("no %d bytes at %d in %s", r.Length, r.Offset, r.Key)
	}
	copy(dst, body[r.Offset:])
	return nil
}

func memory(contents ...string) []File {
	var files []File
	for i, text := range contents {
		files = append(files, File{
			Name: fmt.Sprintf("file%d", i),
			Size: int64(len(text)),
			Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil },
		})
	}
	return files
}

// linesOf is what reading must yield, worked out file by file.
func linesOf(contents []string) []string {
	var want []string
	for _, text := range contents {
		parts := strings.SplitAfter(text, "\n")
		for _, line := range parts {
			if line != "" {
				want = append(want, strings.TrimSuffix(line, "\n"))
			}
		}
	}
	return want
}

func records(t rapid.TB, s Split, fetch Fetch, chunk int64) []string {
	t.Helper()
	r, err := newReader(context.Background(), s, fetch, chunk)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got []string
	for {
		record, err := r.Next()
		if err == io.EOF {
			if r.Read() != s.Size() {
				t.Errorf("%d bytes read of %d", r.Read(), s.Size())
			}
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(record))
	}
}

// checkPacking packs contents and compares what the splits hold with it.
func checkPacking(t rapid.TB, contents []string, splits, object int, chunk int64) {
	t.Helper()
	var s shelf
	packed, err := Pack(context.Background(), memory(contents...), PackConfig{
		Splits: splits, ObjectSize: object, Parallel: 2, Prefix: "in/", Put: s.put,
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(packed.Splits) != splits {
		t.Fatalf("%d splits, want %d", len(packed.Splits), splits)
	}
	var whole bytes.Buffer
	var got []string
	for _, split := range packed.Splits {
		if err := split.Check(); err != nil {
			t.Fatal(err)
		}
		for _, r := range split.Ranges {
			part := make([]byte, r.Length)
			if err := s.fetch(context.Background(), r, part); err != nil {
				t.Fatal(err)
			}
			whole.Write(part)
		}
		got = append(got, records(t, split, s.fetch, chunk)...)
	}
	if want := strings.Join(contents, ""); whole.String() != want {
		t.Errorf("splits hold %q, want %q", whole.String(), want)
	}
	if diff := cmp.Diff(linesOf(contents), got); diff != "" {
		t.Errorf("records of %q in %d splits (-want +got):\n%s", contents, splits, diff)
	}
}

func TestSplitsHoldTheInputAndBreakNoLine(t *testing.T) {
	for _, test := range []struct {
		name     string
		contents []string
	}{
		{"no bytes", []string{""}},
		{"one line without an end", []string{"one"}},
		{"files without a last newline stay apart", []string{"a", "b", "c"}},
		{"empty files between", []string{"", "a\n", "", "", "b"}},
		{"empty lines", []string{"\n\n\n", "\n"}},
		{"a line longer than everything else", []string{"x\n" + strings.Repeat("y", 500) + "\nz\n"}},
		{"carriage returns stay", []string{"a\r\nb\r\n"}},
	} {
		for splits := 1; splits < 6; splits++ {
			for _, object := range []int{1, 7, 1000} {
				for _, chunk := range []int64{1, 3, 1000} {
					t.Run(fmt.Sprintf("%s/%d/%d/%d", test.name, splits, object, chunk), func(t *testing.T) {
						checkPacking(t, test.contents, splits, object, chunk)
					})
				}
			}
		}
	}
}

func TestAnyInputInAnySplitsKeepsItsLines(t *testing.T) {
	text := rapid.StringOfN(rapid.SampledFrom([]rune("ab\n")), 0, 200, -1)
	rapid.Check(t, func(t *rapid.T) {
		contents := rapid.SliceOfN(text, 1, 6).Draw(t, "contents")
		checkPacking(t, contents,
			rapid.IntRange(1, 9).Draw(t, "splits"),
			rapid.IntRange(1, 64).Draw(t, "object"),
			int64(rapid.IntRange(1, 64).Draw(t, "chunk")))
	})
}

func FuzzPacking(f *testing.F) {
	f.Add("a\nb", "c\n", uint8(3), uint8(2), uint8(1))
	f.Fuzz(func(t *testing.T, a, b string, splits, object, chunk uint8) {
		checkPacking(t, []string{a, b}, int(splits%16)+1, int(object)+1, int64(chunk)+1)
	})
}

func TestSplitsAreBalanced(t *testing.T) {
	var contents []string
	for range 50 {
		contents = append(contents, strings.Repeat("0123456789abcde\n", 64))
	}
	var s shelf
	packed, err := Pack(t.Context(), memory(contents...), PackConfig{Splits: 8, Put: s.put})
	if err != nil {
		t.Fatal(err)
	}
	for i, split := range packed.Splits {
		if off := split.Size() - packed.Bytes/8; off < -16 || off > 16 {
			t.Errorf("split %d has %d bytes of %d", i, split.Size(), packed.Bytes)
		}
	}
	if packed.Objects != 1 || packed.Files != 50 {
		t.Errorf("%d objects of %d files, want 1 of 50", packed.Objects, packed.Files)
	}
}

func TestReadErrorsReachTheMapper(t *testing.T) {
	boom := errors.New("boom")
	r, err := newReader(t.Context(), Split{Ranges: []Range{{Key: "x", Length: 10}}},
		func(context.Context, Range, []byte) error { return boom }, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Next(); !errors.Is(err, boom) {
		t.Errorf("Next: %v, want boom", err)
	}
}

func TestCancelIsNoEndOfInput(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, err := newReader(ctx, Split{Ranges: []Range{{Key: "x", Length: 100}}},
		func(ctx context.Context, _ Range, _ []byte) error { <-ctx.Done(); return ctx.Err() }, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cancel()
	if _, err := r.Next(); !errors.Is(err, context.Canceled) {
		t.Errorf("Next after cancel: %v", err)
	}
}

func TestFailedUploadFailsPacking(t *testing.T) {
	boom := errors.New("boom")
	_, err := Pack(t.Context(), memory(strings.Repeat("line\n", 1000)), PackConfig{
		Splits: 2, ObjectSize: 100, Put: func(context.Context, string, []byte) error { return boom },
	})
	if !errors.Is(err, boom) || strings.Contains(err.Error(), "read input") {
		t.Errorf("Pack: %v, want the upload's error alone", err)
	}
}

func TestBadSplitsAreRefused(t *testing.T) {
	for _, s := range []Split{
		{Ranges: []Range{{Key: "", Length: 1}}},
		{Ranges: []Range{{Key: "a", Length: 0}}},
		{Ranges: []Range{{Key: "a", Offset: -1, Length: 1}}},
		{Ranges: []Range{{Key: "a", Length: 5}}, Ends: []int64{6}},
		{Ranges: []Range{{Key: "a", Length: 5}}, Ends: []int64{3, 3}},
		{Ends: []int64{0}},
	} {
		if _, err := NewReader(t.Context(), s, nil); err == nil {
			t.Errorf("split %+v was taken", s)
		}
	}
}

func TestLocalListsRegularFilesSorted(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"b/2": "x", "a": "yy", "b/1": ""} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	files, err := Local(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		name, _ := filepath.Rel(dir, f.Name)
		got = append(got, fmt.Sprint(name, f.Size))
	}
	if diff := cmp.Diff([]string{"a2", "b/10", "b/21"}, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestUnusableInputIsOneClearLine(t *testing.T) {
	dir := t.TempDir()
	for name, path := range map[string]string{
		"missing": filepath.Join(dir, "none"),
		"empty":   dir,
		"device":  os.DevNull,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Local(path)
			if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), path) {
				t.Errorf("Local(%s): %v", path, err)
			}
		})
	}
}

func TestUnreadableFileFailsPacking(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root reads everything")
	}
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("x"), 0); err != nil {
		t.Fatal(err)
	}
	files, err := Local(path)
	if err != nil {
		t.Fatal(err)
	}
	var s shelf
	_, err = Pack(t.Context(), files, PackConfig{Splits: 1, Put: s.put})
	if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), path) {
		t.Errorf("Pack: %v, want a permission error that names %s", err, path)
	}
}

func TestParseS3(t *testing.T) {
	for _, test := range []struct {
		in, bucket, prefix string
		ok, fails          bool
	}{
		{in: "dir/file"},
		{in: "s3://b", bucket: "b", ok: true},
		{in: "s3://b/p/q", bucket: "b", prefix: "p/q", ok: true},
		{in: "s3:///p", ok: true, fails: true},
	} {
		bucket, prefix, ok, err := ParseS3(test.in)
		if bucket != test.bucket || prefix != test.prefix || ok != test.ok || (err != nil) != test.fails {
			t.Errorf("ParseS3(%q) = %q, %q, %v, %v", test.in, bucket, prefix, ok, err)
		}
	}
}
