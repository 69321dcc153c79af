package pack

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"io"
	"testing"
	"time"
)

func files() []File {
	return []File{{Name: "d/program", Content: bytes.Repeat([]byte("x"), 1000), Program: true}, {Name: "d/text", Content: []byte("text\n")}}
}

func TestTheSameFilesMakeTheSameBytes(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(io.Writer, []File) error{"tar.gz": TarGz, "zip": Zip} {
		var one, two bytes.Buffer
		if err := write(&one, files()); err != nil {
			t.Fatal(err)
		}
		if err := write(&two, files()); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(one.Bytes(), two.Bytes()) {
			t.Errorf("%s: two archives of the same files differ", name)
		}
	}
}

func TestTarGzHoldsTheFilesWithModesAndOneTime(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := TarGz(&b, files()); err != nil {
		t.Fatal(err)
	}
	zr, err := gzip.NewReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	if !zr.ModTime.IsZero() {
		t.Errorf("gzip notes the time %v", zr.ModTime)
	}
	tr := tar.NewReader(zr)
	for _, want := range files() {
		h, err := tr.Next()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(tr)
		if err != nil || !bytes.Equal(got, want.Content) {
			t.Errorf("%s: %q, %v", want.Name, got, err)
		}
		if h.Name != want.Name || h.Mode != want.mode() || h.Uid != 0 || h.Uname != "" || !h.ModTime.Equal(time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)) {
			t.Errorf("%s: header %+v", want.Name, h)
		}
	}
	if _, err := tr.Next(); err != io.EOF {
		t.Errorf("after the last file: %v", err)
	}
}

func TestZipHoldsTheFilesWithModes(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := Zip(&b, files()); err != nil {
		t.Fatal(err)
	}
	zr, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if len(zr.File) != len(files()) {
		t.Fatalf("%d files", len(zr.File))
	}
	for i, want := range files() {
		f := zr.File[i]
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, want.Content) {
			t.Errorf("%s: %q, %v", want.Name, got, err)
		}
		if f.Name != want.Name || int64(f.Mode()) != want.mode() {
			t.Errorf("%s: named %s, mode %v", want.Name, f.Name, f.Mode())
		}
	}
}

func TestSumIsThatOfSha256sum(t *testing.T) {
	t.Parallel()
	const want = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  empty\n"
	if got := Sum("empty", nil); got != want {
		t.Errorf("%q", got)
	}
}
