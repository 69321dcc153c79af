package commands_test

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bradawl/bradawl/client/bradawl/commands"
	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/token"
	"github.com/bradawl/bradawl/server/rendezvous/rendezvoustest"
)

func TestASignInThatFailsGetsOneClearLine(t *testing.T) {
	t.Parallel()
	server := rendezvoustest.Start(t, nil)
	other, err := identity.New()
	must(t, err)
	silent, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}) // answers nothing
	must(t, err)
	t.Cleanup(func() { must(t, silent.Close()) })
	hour := time.Now().Add(time.Hour)
	away, err := protocol.ParseURL(server.URL())
	must(t, err)
	away.Host = silent.LocalAddr().String()
	for _, tc := range []struct {
		name, url string
		says      []string
	}{
		{"wrong pin", server.URLWith(token.Claims{Group: "*", Name: "*", Expires: hour}, other.Fingerprint()), []string{"identity_mismatch", "pin"}},
		{"expired token", server.URLWith(token.Claims{Group: "*", Name: "*", Expires: time.Now().Add(-time.Hour)}, server.Pin()), []string{"unauthorized", "expired"}},
		{"token for another group", server.URLWith(token.Claims{Group: "x", Name: "*", Expires: hour}, server.Pin()), []string{"unauthorized", "group"}},
		{"unreachable server", away.Secret(), []string{"server_unreachable", "no answer from " + away.Host}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			u, err := protocol.ParseURL(tc.url)
			must(t, err)
			file := filepath.Join(t.TempDir(), "url")
			must(t, os.WriteFile(file, []byte(tc.url), 0o600))
			var outs, said bytes.Buffer
			code := commands.Main(t.Context(), []string{"connect", "b", "--url-file", file}, strings.NewReader(""), &outs, &said)
			out, errs := outs.String(), said.String()
			if code != commands.ExitFailure || out != "" {
				t.Errorf("exit %d, want %d; stdout %q", code, commands.ExitFailure, out)
			}
			if !strings.HasPrefix(errs, "bradawl: ") || strings.Count(errs, "\n") != 1 || strings.Contains(errs, u.Token) {
				t.Errorf("stderr %q, want one line without the token", errs)
			}
			for _, s := range tc.says {
				if !strings.Contains(errs, s) {
					t.Errorf("stderr %q does not say %q", errs, s)
				}
			}
		})
	}
}
