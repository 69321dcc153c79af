package keyfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bradawl/bradawl/protocol/keyfile"
)

func TestWriteReplacesTheWholeFileForItsOwnerOnly(t *testing.T) {
	name := filepath.Join(t.TempDir(), "secret")
	for _, content := range []string{"first, and longer", "second"} {
		if err := keyfile.Write(name, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := keyfile.Read(name); err != nil || string(got) != content {
			t.Errorf("got %q, %v", got, err)
		}
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
	if files, err := os.ReadDir(filepath.Dir(name)); err != nil || len(files) != 1 {
		t.Errorf("left over: %v, %v", files, err)
	}
}

func TestReadRefusesWhatOthersMayRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "secret")
	if err := keyfile.Write(name, []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o620, 0o602} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := keyfile.Read(name); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}

func TestErrorsNameTheFile(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing", "secret")
	if _, err := keyfile.Read(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read: %v", err)
	}
	if err := keyfile.Write(missing, nil); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("write: %v", err)
	}
}
