// Package buildinfo says which version of bradawl a program is.
package buildinfo

import "runtime/debug"

// version is set by the linker in a release and constant afterwards:
//
//	go build -ldflags '-X github.com/bradawl/bradawl/internal/buildinfo.version=v1.2.3'
//
// The toolchain's own note is empty there, as releases are built without a repository.
var version string

// Version is the release's version; else the module's, of a program installed by "go install"; else "devel" with
// the commit, as far as the toolchain noted it. It has no spaces and is never empty.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return pick(version, info)
}

// String is Version and the version of Go, as "v1.2.3 go1.26.0": what --version prints.
func String() string {
	s := Version()
	if info, ok := debug.ReadBuildInfo(); ok {
		s += " " + info.GoVersion
	}
	return s
}

// Asked tells whether a program's arguments, its name not among them, are a lone --version. It is for programs
// that have no other flags, such as Lambda functions.
func Asked(args []string) bool { return len(args) == 1 && args[0] == "--version" }

// commitDigits is how much of a commit's hash is shown.
const commitDigits = 12

func pick(linked string, info *debug.BuildInfo) string {
	if linked != "" {
		return linked
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= commitDigits {
			return "devel-" + s.Value[:commitDigits]
		}
	}
	return "devel"
}
