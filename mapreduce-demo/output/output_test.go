package output

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

func part(name, text string) Part {
	return Part{Name: name, Open: func(context.Context) (io.ReadCloser, int64, error) {
		return io.NopCloser(strings.NewReader(text)), int64(len(text)), nil
	}}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestDirectoryGetsWholePartsAndTheMarker(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := Directory(dir).Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(dir)); err == nil {
		t.Error("looking left a directory behind")
	}
	if err := Directory(dir).Deliver(t.Context(), []Part{part("part-0", "x\n"), part("part-1", "")}, "_SUCCESS"); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(names(t, dir), " "); got != "_SUCCESS part-0 part-1" {
		t.Errorf("files %s", got)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "part-0")); err != nil || string(text) != "x\n" {
		t.Errorf("part-0 is %q, %v", text, err)
	}
	if err := Directory(dir).Deliver(t.Context(), nil, "_SUCCESS"); err == nil {
		t.Error("a directory with an output was taken again")
	}
}

func TestFailedDeliveryLeavesNothing(t *testing.T) {
	boom := errors.New("boom")
	for name, bad := range map[string]Part{
		"cannot open": {Name: "part-1", Open: func(context.Context) (io.ReadCloser, int64, error) { return nil, 0, boom }},
		"breaks off": {Name: "part-1", Open: func(context.Context) (io.ReadCloser, int64, error) {
			return io.NopCloser(iotest.ErrReader(boom)), 9, nil
		}},
		"is too short": {Name: "part-1", Open: func(context.Context) (io.ReadCloser, int64, error) {
			return io.NopCloser(strings.NewReader("x")), 9, nil
		}},
		"has no place": part("no/such/directory", "x"),
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, dir := range []string{filepath.Join(root, "new", "deep"), root} {
				err := Directory(dir).Deliver(t.Context(), []Part{part("part-0", "x"), bad}, "_SUCCESS")
				if err == nil {
					t.Fatal("no error")
				}
				if left := names(t, dir); len(left) > 0 {
					t.Errorf("%q stayed behind after %v", left, err)
				}
			}
			if left := names(t, root); len(left) > 0 {
				t.Errorf("%q stayed behind", left)
			}
		})
	}
}

func TestDifferences(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 40_000)
	for _, test := range []struct {
		name string
		a, b []Part
		same bool
	}{
		{"nothing", nil, nil, true},
		{"equal", []Part{part("p", long), part("q", "")}, []Part{part("p", long), part("q", "")}, true},
		{"one byte", []Part{part("p", long+"x")}, []Part{part("p", long+"y")}, false},
		{"shorter", []Part{part("p", long)}, []Part{part("p", long[1:])}, false},
		{"other names", []Part{part("p", "x")}, []Part{part("q", "x")}, false},
		{"fewer parts", []Part{part("p", "x")}, nil, false},
	} {
		got, err := Difference(t.Context(), test.a, test.b)
		if err != nil || (got == "") != test.same {
			t.Errorf("%s: %q, %v", test.name, got, err)
		}
	}
	lying := Part{Name: "p", Open: func(context.Context) (io.ReadCloser, int64, error) {
		return io.NopCloser(bytes.NewReader([]byte("x"))), 2, nil
	}}
	if got, err := Difference(t.Context(), []Part{lying}, []Part{part("p", "xy")}); err != nil || got == "" {
		t.Errorf("a body that ends early: %q, %v", got, err)
	}
}
