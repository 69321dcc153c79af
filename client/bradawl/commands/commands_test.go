package commands_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bradawl/bradawl/client/bradawl/commands"
	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/keyfile"
	"github.com/bradawl/bradawl/protocol/token"
)

func TestPingConnectsAndPrintsJSON(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	l := s.start(s.behind("b", natlab.PortRestricted()), "listen", "--name", "b")
	l.err.until(t, "listening as b")
	p := s.start(s.behind("a", natlab.PortRestricted()), "ping", "b", "--name", "a", "--json", "-c", "2", "--attempts", "3")
	if code := p.wait(); code != 0 {
		t.Fatalf("exit %d, stderr %q, stdout %q", code, p.err.all(), p.out.all())
	}
	lines := strings.Split(strings.TrimSpace(p.out.all()), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines: %q", len(lines), lines)
	}
	for _, line := range lines {
		var r map[string]any
		must(t, json.Unmarshal([]byte(line), &r))
		for _, key := range []string{"peer", "path", "connect_ms", "rtt_ms", "nat", "local", "remote"} {
			if r[key] == nil {
				t.Errorf("no %s in %s", key, line)
			}
		}
		if _, ok := r["skew_ms"]; !ok {
			t.Errorf("no skew_ms in %s", line)
		}
		if r["nat"] != "endpoint-independent" || r["path"] != "server_reflexive" || len(r["echo_ms"].([]any)) != 2 {
			t.Errorf("unexpected: %s", line)
		}
		for _, key := range []string{"local", "remote"} {
			if _, err := netip.ParseAddrPort(r[key].(string)); err != nil {
				t.Errorf("%s: %v", key, err)
			}
		}
	}
	must(t, l.cmd.Process.Signal(syscall.SIGINT))
	if code := l.wait(); code != 0 {
		t.Errorf("listen ends with %d after SIGINT", code)
	}
}

func TestPingSaysWhyItDidNotConnect(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	p := s.start(s.behind("a", natlab.PortRestricted()), "ping", "nobody", "--json")
	if code := p.wait(); code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	var r struct{ Reason, Error string }
	must(t, json.Unmarshal([]byte(p.out.all()), &r))
	if r.Reason != "no_peer" || r.Error == "" {
		t.Errorf("got %+v", r)
	}
	l := s.start(s.behind("sym b", natlab.Symmetric()), "listen", "--name", "b")
	l.err.until(t, "listening as b")
	p = s.start(s.behind("sym a", natlab.Symmetric()), "ping", "b")
	if code := p.wait(); code != 1 || !strings.Contains(p.out.all(), "mapping_varies") {
		t.Errorf("exit %d, %q", code, p.out.all())
	}
}

func TestConnectCarriesBothDirectionsToTheirEnds(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name         string
		there, back  int  // bytes
		listenerEnds bool // before the other side has said anything
	}{
		{"both", 300_000, 200_000, false},
		{"only there", 100_000, 0, false},
		{"only back", 0, 100_000, true},
		{"nothing", 0, 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			l := s.start(s.behind("b", natlab.PortRestricted()), "listen", "--stdio", "--name", "b")
			l.err.until(t, "listening as b")
			c := s.start(s.behind("a", natlab.PortRestricted()), "connect", "b", "--name", "a")
			there, back := random(tc.there), random(tc.back)
			if tc.listenerEnds {
				send(t, l.in, back)
				c.out.until(t, string(back)) // while our own direction is open and silent
				send(t, c.in, there)
			} else {
				go send(t, l.in, back)
				send(t, c.in, there)
			}
			if code := c.wait(); code != 0 {
				t.Errorf("connect: exit %d, %s", code, c.err.all())
			}
			if code := l.wait(); code != 0 {
				t.Errorf("listen: exit %d, %s", code, l.err.all())
			}
			if got := l.out.all(); got != string(there) {
				t.Errorf("the listener got %d bytes, want %d", len(got), len(there))
			}
			if got := c.out.all(); got != string(back) {
				t.Errorf("the other side got %d bytes, want %d", len(got), len(back))
			}
		})
	}
}

func TestDataThatMayNotHaveArrivedIsAFailure(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		endSlow bool // the listener has not ended its own direction when the line is cut
	}{
		{"one direction is over", false},
		{"both are open", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			l := s.start(s.behind("b", natlab.PortRestricted()), "listen", "--stdio", "--name", "b")
			l.err.until(t, "listening as b")
			cut := s.behind("a", natlab.PortRestricted())
			c := s.start(cut, "connect", "b", "--name", "a")
			l.err.until(t, "connected to a")
			_, err := io.WriteString(l.in, "hello")
			must(t, err)
			if !tc.endSlow {
				must(t, l.in.Close())
			}
			c.out.until(t, "hello")
			must(t, cut.Site().CutUplink())
			send(t, c.in, random(10_000))
			for who, p := range map[string]*process{"connect": c, "listen": l} {
				code := p.wait()
				said := p.err.all()
				lines := strings.Split(strings.TrimSpace(said), "\n")
				if code != commands.ExitFailure || !strings.HasPrefix(lines[len(lines)-1], "bradawl: broken off, some of the data may be lost: ") || strings.Count(said, "bradawl: ") != 1 {
					t.Errorf("%s: exit %d, want %d: %q", who, code, commands.ExitFailure, said)
				}
			}
			if got := l.out.all(); got != "" {
				t.Errorf("%d bytes came through a cut line", len(got))
			}
		})
	}
}

func random(n int) []byte {
	b := make([]byte, n/2)
	_, _ = rand.Read(b)
	return fmt.Appendf(nil, "%x", b)
}

func send(t *testing.T, w io.WriteCloser, b []byte) {
	if _, err := io.Copy(w, bytes.NewReader(b)); err != nil {
		t.Errorf("write to the command: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("close the command's input: %v", err)
	}
}

func TestConnectToAnEcho(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	l := s.start(s.behind("b", natlab.PortRestricted()), "listen", "--name", "b")
	l.err.until(t, "listening as b")
	c := s.start(s.behind("a", natlab.PortRestricted()), "connect", "b")
	text := random(100_000)
	send(t, c.in, text)
	if code := c.wait(); code != 0 || c.out.all() != string(text) {
		t.Errorf("exit %d, %d bytes back, %s", code, len(c.out.all()), c.err.all())
	}
}

func TestConnectFailsWhenThePeerIsInterrupted(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	l := s.start(s.behind("b", natlab.PortRestricted()), "listen", "--stdio", "--name", "b")
	l.err.until(t, "listening as b")
	c := s.start(s.behind("a", natlab.PortRestricted()), "connect", "b", "--name", "a")
	l.err.until(t, "connected to a")
	must(t, l.cmd.Process.Signal(syscall.SIGTERM))
	if code := l.wait(); code != commands.ExitInterrupted {
		t.Errorf("listen: exit %d", code)
	}
	if code := c.wait(); code != commands.ExitFailure {
		t.Errorf("connect: exit %d: %s", code, c.err.all())
	}
}

func TestNetcheckSpeaksPlainly(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for _, tc := range []struct {
		nat  natlab.NAT
		code int
		says string
	}{
		{natlab.PortRestricted(), 0, "mapping                           endpoint-independent\nfiltering                         address-and-port-dependent"},
		{natlab.Symmetric(), 0, "address-and-port-dependent"},
		{natlab.UDPBlocked(), 1, "UDP is blocked"},
	} {
		p := s.start(s.behind("a", tc.nat), "netcheck")
		if code := p.wait(); code != tc.code || !strings.Contains(p.out.all(), tc.says) {
			t.Errorf("%v: exit %d: %q %q", tc.nat, code, p.out.all(), p.err.all())
		}
		p = s.start(s.behind("a", tc.nat), "netcheck", "--json")
		p.wait()
		var r struct {
			Mapping, Filtering string
			IPv4               string
			NoIPv6             string `json:"no_ipv6"`
			MTU                int    `json:"path_mtu"`
			Untested           []struct{ Test, Why string }
		}
		must(t, json.Unmarshal([]byte(p.out.all()), &r))
		if known := tc.code == 0; known != (r.MTU == 1500) || known != (r.Filtering == "address-and-port-dependent") {
			t.Errorf("%v: %s", tc.nat, p.out.all())
		}
		if known := tc.code == 0; known != strings.HasPrefix(r.IPv4, "198.18.") || known != (r.NoIPv6 != "") {
			t.Errorf("%v: families in %s", tc.nat, p.out.all())
		}
		if n := len(r.Untested); n == 0 || r.Untested[n-1].Test != "mapping lifetime" || r.Untested[n-1].Why == "" {
			t.Errorf("%v: untested %v", tc.nat, r.Untested)
		}
	}
}

// run is the command without a lab.
func run(t *testing.T, env string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	t.Setenv("BRADAWL_URL", env)
	var out, errs bytes.Buffer
	code = commands.Main(context.Background(), args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestBadInputGetsOneClearLine(t *testing.T) {
	open := filepath.Join(t.TempDir(), "open")
	must(t, os.WriteFile(open, []byte("bradawl://t@h"), 0o644))
	const url = "bradawl://SECRET@127.0.0.1:9?pin=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	for _, tc := range []struct {
		env  string
		args []string
		says string
	}{
		{"", []string{"ping", "b"}, "BRADAWL_URL"},
		{"nonsense", []string{"ping", "b"}, "bradawl://"},
		{"bradawl://SECRET:x@h", []string{"netcheck"}, "connection string"},
		{url, []string{"ping"}, "arg"},
		{url, []string{"ping", "a", "b"}, "arg"},
		{url, []string{"ping", "b", "--attempts", "0"}, "--attempts"},
		{url, []string{"ping", "b", "-c", "x"}, "invalid"},
		{url, []string{"listen", "--stdio", "--echo"}, "exclude"},
		{url, []string{"listen", "--group", ""}, "--group"},
		{url, []string{"frobnicate"}, "frobnicate"},
		{url, []string{"ping", "b", "--no-such-flag"}, "no-such-flag"},
		{"", []string{"ping", "b", "--url-file", "/does/not/exist"}, "/does/not/exist"},
		{"", []string{"ping", "b", "--url-file", open}, "chmod 600"},
		{"", []string{"token"}, "key"},
		{"", []string{"token", "--key", "/does/not/exist"}, "/does/not/exist"},
		{"", []string{"token", "--key", "k", "--expires", "-1h"}, "--expires"},
		{"", []string{"token", "--key", "k", "--pin", "x"}, "--server"},
	} {
		code, out, errs := run(t, tc.env, tc.args...)
		if code != commands.ExitUsage || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, tc.says) || strings.Contains(errs, "SECRET") {
			t.Errorf("%q: exit %d, stdout %q, stderr %q, want %q", tc.args, code, out, errs, tc.says)
		}
	}
}

func TestTokenMintsWhatTheServerAccepts(t *testing.T) {
	dir := t.TempDir()
	key, err := token.LoadOrCreateKey(filepath.Join(dir, "token.key"))
	must(t, err)
	id, err := identity.New()
	must(t, err)
	out := filepath.Join(dir, "out")
	code, _, errs := run(t, "", "token", "--key", filepath.Join(dir, "token.key"), "--group", "job-*", "--name", "map-*",
		"--expires", "1h", "--server", "example.org", "--pin", id.Fingerprint().String(), "--out", out)
	if code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	b, err := keyfile.Read(out) // checks the mode, too
	must(t, err)
	code, same, errs := run(t, strings.TrimSpace(string(b)), "token", "--key", filepath.Join(dir, "token.key"))
	if code != 0 || !strings.HasPrefix(same, "bradawl://") || !strings.Contains(same, "@example.org:3478?pin="+id.Fingerprint().String()) {
		t.Errorf("exit %d: %q %q", code, same, errs)
	}
	_, bare, _ := run(t, "", "token", "--key", filepath.Join(dir, "token.key"), "--group", "g", "--name", "n")
	claims, err := token.NewVerifier(keyOf(key)).Verify(strings.TrimSpace(bare), time.Now())
	must(t, err)
	if claims.Allows("g", "n") != nil || claims.Allows("g", "m") == nil || claims.Allows("h", "n") == nil {
		t.Errorf("claims %+v", claims)
	}
}

func TestVersionAndHelp(t *testing.T) {
	if code, out, _ := run(t, "", "--version"); code != 0 || !strings.HasPrefix(out, "bradawl") {
		t.Errorf("%d %q", code, out)
	}
	code, out, _ := run(t, "", "--help")
	for _, c := range []string{"token", "listen", "connect", "ping", "netcheck"} {
		if code != 0 || !strings.Contains(out, c) {
			t.Errorf("%d: no %s in %q", code, c, out)
		}
	}
}
func keyOf(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func TestPingConnectsInEveryFreshAttempt(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	l := s.start(s.behind("b", natlab.PortRestricted()), "listen", "--name", "b")
	l.err.until(t, "listening as b")
	p := s.start(s.behind("a", natlab.PortRestricted()), "ping", "b", "--name", "a", "-c", "1", "--attempts", "200")
	code := p.wait()
	out := p.out.all()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	t.Log(lines[len(lines)-1])
	if code != 0 || !strings.Contains(out, "200 of 200 attempts connected") {
		for _, line := range lines {
			if strings.Contains(line, "not connected") {
				t.Log(line)
			}
		}
		t.Errorf("exit %d, %s", code, p.err.all())
	}
}
