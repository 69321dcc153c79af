package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const versionSymbol = "github.com/bradawl/bradawl/internal/buildinfo.version"

// compile builds a static program for linux that depends on nothing but the source and the version of Go: no paths
// of this machine, no note of the repository's state, no setting that the caller happens to have.
func compile(ctx context.Context, root, pkg, version, arch, tags string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "bradawl-release-")
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", pkg, err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "program")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-tags", tags,
		"-ldflags", "-s -w -buildid= -X "+versionSymbol+"="+version, "-o", file, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0",
		"GOFLAGS=-mod=readonly", "GOWORK=off", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0", "GOFIPS140=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s for linux/%s: %w: %s", pkg, arch, err, strings.TrimSpace(string(out)))
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("build %s for linux/%s: %w", pkg, arch, err)
	}
	return content, nil
}

// moduleRoot is the directory of the source.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	file := strings.TrimSpace(string(out))
	if err != nil || file == "" || file == os.DevNull {
		return "", fmt.Errorf("this is no Go module; run it inside the repository (go env GOMOD said %q, %v)", file, err)
	}
	return filepath.Dir(file), nil
}
