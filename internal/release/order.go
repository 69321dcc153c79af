package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/bradawl/bradawl/internal/release/pack"
)

// order is what to build, and where to.
type order struct {
	version string
	out     string
	archs   []string
}

const sumsName = "SHA256SUMS"

func (o order) check() error {
	// It becomes part of file names and of a linker flag.
	if !regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`).MatchString(o.version) {
		return fmt.Errorf("--version is %q, must be a semantic version such as v1.2.3 or v1.2.3-rc.1", o.version)
	}
	if o.out == "" {
		return errors.New("--out must name the directory to write to")
	}
	for _, a := range o.archs {
		if !slices.Contains([]string{"amd64", "arm64"}, a) {
			return fmt.Errorf("--arch has %q, must be amd64 or arm64: Lambda has no others", a)
		}
	}
	return nil
}

// make builds everything and writes it.
func (o order) make(ctx context.Context, stdout io.Writer) error {
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return fmt.Errorf("make the directory: %w", err)
	}
	switch there, err := os.ReadDir(o.out); {
	case err != nil:
		return fmt.Errorf("look into --out: %w", err)
	case len(there) > 0:
		return fmt.Errorf("--out %s is not empty: an older file there would not be in %s; choose another", o.out, sumsName)
	}
	var sums []string
	for _, arch := range o.archs {
		for _, a := range artifacts(o.version, arch) {
			content, err := a.build(ctx, root, o.version, arch)
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(o.out, a.name), content, 0o644); err != nil {
				return fmt.Errorf("write the artifact: %w", err)
			}
			line := pack.Sum(a.name, content)
			sums = append(sums, line)
			_, _ = fmt.Fprint(stdout, line)
		}
	}
	slices.SortFunc(sums, func(a, b string) int { return strings.Compare(a[64:], b[64:]) })
	if err := os.WriteFile(filepath.Join(o.out, sumsName), []byte(strings.Join(sums, "")), 0o644); err != nil {
		return fmt.Errorf("write the checksums: %w", err)
	}
	return nil
}

// artifact is one file of a release.
type artifact struct {
	name     string
	zip      bool      // else tar.gz
	programs []program // built for the artifact
	texts    []string  // files of the repository, as they are
	folder   string    // in the archive
	tags     string
}

// program is a package and the name of what is built from it.
type program struct{ pkg, name string }

// artifacts lists those of one architecture.
func artifacts(version, arch string) []artifact {
	base := fmt.Sprintf("bradawl_%s_linux_%s", version, arch)
	function := func(name, pkg string) artifact {
		return artifact{
			name: fmt.Sprintf("bradawl-%s_%s_lambda_%s.zip", name, version, arch), zip: true,
			programs: []program{{pkg, "bootstrap"}}, tags: "lambda.norpc",
		}
	}
	return []artifact{
		{
			name: base + ".tar.gz", folder: base,
			programs: []program{{"./server", "bradawl-server"}, {"./client/bradawl", "bradawl"}},
			texts:    []string{"LICENSE", "CHANGELOG.md"},
		},
		function("worker", "./mapreduce-demo/worker"),
		function("probe", "./lambdaclient/probe/bootstrap"),
	}
}

// build makes the artifact's bytes.
func (a artifact) build(ctx context.Context, root, version, arch string) ([]byte, error) {
	var files []pack.File
	for _, p := range a.programs {
		content, err := compile(ctx, root, p.pkg, version, arch, a.tags)
		if err != nil {
			return nil, err
		}
		files = append(files, pack.File{Name: path.Join(a.folder, p.name), Content: content, Program: true})
	}
	for _, name := range a.texts {
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return nil, fmt.Errorf("read what goes into %s: %w", a.name, err)
		}
		files = append(files, pack.File{Name: path.Join(a.folder, name), Content: content})
	}
	write := pack.TarGz
	if a.zip {
		write = pack.Zip
	}
	var b bytes.Buffer
	if err := write(&b, files); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
