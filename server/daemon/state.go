package daemon

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/keyfile"
	"github.com/bradawl/bradawl/protocol/token"
)

// state is what outlives the process: cert.pem and key.pem, whose fingerprint
// clients pin, token.key, which signs tokens, and url, the connection string.
type state struct {
	dir   string
	id    *identity.Identity
	key   ed25519.PrivateKey
	fresh bool // the identity was made just now
}

// stateDir is where the state lives if no setting says so.
func stateDir() (string, error) {
	// systemd's StateDirectory=; more than one are separated by colons.
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("no state directory: %w; name one with --state-dir", err)
	}
	return filepath.Join(dir, "bradawl"), nil
}

// openState reads the state or makes it.
func openState(dir string) (*state, error) {
	if dir == "" {
		var err error
		if dir, err = stateDir(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w; choose another with --state-dir", err)
	}
	id, fresh, err := identity.LoadOrCreate(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return nil, stateError(dir, err)
	}
	key, err := token.LoadOrCreateKey(filepath.Join(dir, "token.key"))
	if err != nil {
		return nil, stateError(dir, err)
	}
	return &state{dir: dir, id: id, key: key, fresh: fresh}, nil
}

func stateError(dir string, err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("state directory %s: %w; make it writable or choose another with --state-dir", dir, err)
	}
	return fmt.Errorf("state directory %s: %w", dir, err)
}

// writeURL writes a connection string for any group and name into the file url and returns the string and the file.
func (s *state) writeURL(host string, lifetime time.Duration) (u protocol.URL, file string, err error) {
	file = filepath.Join(s.dir, "url")
	tok, err := token.Mint(s.key, token.Claims{Group: "*", Name: "*", Expires: time.Now().Add(lifetime)})
	if err != nil {
		return protocol.URL{}, "", err
	}
	u = protocol.URL{Token: tok, Host: host, Pins: []identity.Fingerprint{s.id.Fingerprint()}}
	if err := keyfile.Write(file, []byte(u.Secret()+"\n")); err != nil {
		return protocol.URL{}, "", stateError(s.dir, err)
	}
	return u, file, nil
}
