package buildinfo

import (
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestTheMostExactVersionIsShown(t *testing.T) {
	t.Parallel()
	commit := []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef0123456789abcdef01234567"}}
	for _, tc := range []struct {
		name, linked string
		info         debug.BuildInfo
		want         string
	}{
		{"a release", "v1.2.3", debug.BuildInfo{Main: debug.Module{Version: "v0.0.1"}, Settings: commit}, "v1.2.3"},
		{"go install", "", debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: commit}, "v1.2.3"},
		{"a checkout", "", debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: commit}, "devel-0123456789ab"},
		{"a commit too short", "", debug.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "0123"}}}, "devel"},
		{"nothing known", "", debug.BuildInfo{}, "devel"},
	} {
		if got := pick(tc.linked, &tc.info); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestStringNamesGoToo(t *testing.T) {
	t.Parallel()
	if s := String(); !strings.HasSuffix(s, " "+runtime.Version()) || strings.Contains(Version(), " ") {
		t.Errorf("version %q, string %q", Version(), s)
	}
}

func TestOnlyALoneFlagAsksForTheVersion(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"version"}, {"--version", "x"}, {"x", "--version"}} {
		if Asked(args) {
			t.Errorf("%q asks for the version", args)
		}
	}
	if !Asked([]string{"--version"}) {
		t.Error("--version does not ask for the version")
	}
}
