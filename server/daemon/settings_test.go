package daemon

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// parse loads settings from flags, the environment and a file of the given content.
func parse(t testing.TB, yaml string, args ...string) (settings, error) {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	define(flags)
	if yaml != "" {
		file := filepath.Join(t.TempDir(), "settings.yaml")
		if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", file)
	}
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return load(viper.New(), flags)
}

func TestFlagOverrulesEnvironmentOverrulesFile(t *testing.T) {
	t.Setenv("BRADAWL_WINDOW", "2s")
	t.Setenv("BRADAWL_MAX_PEERS", "22")
	s, err := parse(t, "window: 3s\nmax-peers: 33\nmax-groups: 44\nstun-alternate: off\nhttp: off\n", "--window=1s")
	if err != nil {
		t.Fatal(err)
	}
	if s.Window != time.Second || s.MaxPeers != 22 || s.MaxGroups != 44 || s.STUNAlternate != off || s.HTTP != off || s.MaxSessions != 262144 {
		t.Errorf("settings %+v", s)
	}
}

func TestDefaultsAreTheDocumentedOnes(t *testing.T) {
	s, err := parse(t, "")
	if err != nil {
		t.Fatal(err)
	}
	if s.Listen != ":3478" || s.STUNAlternate != ":3479" || s.HTTP != "127.0.0.1:9090" || s.Window != 500*time.Millisecond {
		t.Errorf("settings %+v", s)
	}
}

func TestBadSettingsAreOneClearLine(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	occupied := file("occupied", "")
	keyless := filepath.Join(dir, "keyless")
	readable := filepath.Join(dir, "readable")
	for _, d := range []string{keyless, readable} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := openState(d); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(keyless, "key.pem")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(readable, "token.key"), 0o640); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args []string
		code int
		want string
	}{
		"unknown flag":         {[]string{"--nope"}, ExitUsage, "unknown flag: --nope"},
		"argument":             {[]string{"start"}, ExitUsage, `unexpected argument "start"`},
		"bad duration":         {[]string{"--window=soon"}, ExitUsage, "--window"},
		"zero window":          {[]string{"--window=0"}, ExitUsage, "must be positive"},
		"no peers":             {[]string{"--max-peers=0"}, ExitUsage, "max-peers is 0"},
		"no port":              {[]string{"--listen=localhost"}, ExitUsage, "must be HOST:PORT"},
		"port too large":       {[]string{"--listen=:99999"}, ExitUsage, "99999"},
		"no alternate left":    {[]string{"--listen=:65535"}, ExitUsage, "stun-alternate"},
		"listen off":           {[]string{"--listen=off"}, ExitUsage, "listen"},
		"public without port":  {[]string{"--public-addr=example.org"}, ExitUsage, "public-addr"},
		"log level":            {[]string{"--log-level=loud"}, ExitUsage, "log-level"},
		"log format":           {[]string{"--log-format=xml"}, ExitUsage, "log-format"},
		"missing file":         {[]string{"--config=" + filepath.Join(dir, "none")}, ExitUsage, "no such file"},
		"not YAML":             {[]string{"--config=" + file("a", "a: [\n")}, ExitUsage, "not YAML"},
		"misspelt key":         {[]string{"--config=" + file("b", "stun_alternate: off\n")}, ExitUsage, `did you mean "stun-alternate"?`},
		"foreign key":          {[]string{"--config=" + file("c", "zzzzzzzzzzzz: 1\n")}, ExitUsage, "known are"},
		"nested key":           {[]string{"--config=" + file("d", "limits:\n  max-peers: 1\n")}, ExitUsage, "limits.max-peers"},
		"config within config": {[]string{"--config=" + file("e", "config: x\n")}, ExitUsage, `unknown key "config"`},
		"wrong type":           {[]string{"--config=" + file("f", "max-peers: many\n")}, ExitUsage, "max-peers"},
		"state under a file":   {[]string{"--listen=127.0.0.1:0", "--http=off", "--state-dir=" + filepath.Join(occupied, "x")}, ExitFailure, "--state-dir"},
		"half a key pair":      {[]string{"--listen=127.0.0.1:0", "--http=off", "--state-dir=" + keyless}, ExitFailure, "only one exists"},
		"readable key":         {[]string{"--listen=127.0.0.1:0", "--http=off", "--state-dir=" + readable}, ExitFailure, "chmod 600"},
		"foreign address":      {[]string{"--listen=192.0.2.1:0", "--http=off", "--state-dir=" + filepath.Join(dir, "s")}, ExitFailure, "no address of this machine"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			code := Main(context.Background(), tc.args, &out, &errs)
			if code != tc.code || strings.Count(errs.String(), "\n") != 1 || !strings.Contains(errs.String(), tc.want) || out.Len() > 0 {
				t.Errorf("exit code %d, %q, want %d and %q", code, errs.String(), tc.code, tc.want)
			}
		})
	}
}

func TestVersionAndHelp(t *testing.T) {
	for arg, want := range map[string]string{"--version": "bradawl-server version", "--help": "--public-addr"} {
		var out, errs bytes.Buffer
		if code := Main(context.Background(), []string{arg}, &out, &errs); code != ExitOK || !strings.Contains(out.String(), want) || errs.Len() > 0 {
			t.Errorf("%s: exit code %d, %q, %q", arg, code, out.String(), errs.String())
		}
	}
}

func TestEmbeddedDaemonEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out, errs bytes.Buffer
	args := []string{"--listen=127.0.0.1:0", "--http=off", "--state-dir=" + t.TempDir()}
	if code := Main(ctx, args, &out, &errs); code != ExitOK {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
}

func TestStateDirectoryOfSystemdComesFirst(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")
	if dir, err := stateDir(); err != nil || dir != "/var/lib/one" {
		t.Errorf("%s, %v", dir, err)
	}
}

func TestAddressOfTheConnectionString(t *testing.T) {
	addr := func(s string) net.Addr {
		a, err := net.ResolveUDPAddr("udp", s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	own := ownAddress().String()
	for _, tc := range []struct{ setting, listening, want string }{
		{"example.org:7", "127.0.0.1:3478", "example.org:7"},
		{"", "192.0.2.9:3478", "192.0.2.9:3478"},
		{"", "[2001:db8::1]:3478", "[2001:db8::1]:3478"},
		{"", "0.0.0.0:3478", net.JoinHostPort(own, "3478")},
		{"", "[::]:3478", net.JoinHostPort(own, "3478")},
	} {
		if got := publicHost(tc.setting, addr(tc.listening)); got != tc.want {
			t.Errorf("%q, %s: %s, want %s", tc.setting, tc.listening, got, tc.want)
		}
	}
}

func FuzzSettingsFile(f *testing.F) {
	f.Add("listen: :1\nwindow: 1s\n")
	f.Add("a: {b: [1, 2]}\n")
	f.Add("- x\n")
	f.Add("listen: !!binary x\n\"\": ~\n")
	file := filepath.Join(f.TempDir(), "settings.yaml")
	f.Fuzz(func(t *testing.T, yaml string) {
		if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
		define(flags)
		if err := flags.Parse([]string{"--config", file}); err != nil {
			t.Fatal(err)
		}
		if s, err := load(viper.New(), flags); err == nil && (s.MaxPeers < 1 || s.Window <= 0 || s.Listen == "") {
			t.Errorf("accepted %+v", s)
		}
	})
}

func TestSTUNOtherMustNameAnAddress(t *testing.T) {
	for _, tc := range []struct {
		other, public string
		ok            bool
	}{
		{off, "", true},
		{"127.0.0.2:0", "", true},
		{"127.0.0.2:3480", "192.0.2.1:3480", true},
		{":3480", "", false},
		{"0.0.0.0:3480", "192.0.2.1:3480", false},
		{"elsewhere.example:3480", "", false},
		{"127.0.0.2:3480", "192.0.2.1:0", false},
		{off, "192.0.2.1:3480", false},
	} {
		s := settings{STUNOther: tc.other, PublicOther: tc.public}
		if err := s.checkOther(); (err == nil) != tc.ok {
			t.Errorf("%+v: %v", tc, err)
		}
	}
}
