package protocol

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"

	"github.com/bradawl/bradawl/protocol/identity"
)

// Scheme is the scheme of a connection string.
const Scheme = "bradawl"

// URL is a connection string, `bradawl://TOKEN@host:port?pin=...`: all that a
// peer needs to reach a rendezvous. It is secret as a whole, because of the
// token; it prints with the token redacted.
type URL struct {
	// Token is the JWT to present.
	Token string
	// Host is host:port; ParseURL adds DefaultPort where the string has none.
	Host string
	// Pins are the keys that the server may prove; any one of them will do, so that keys can be rotated.
	// Empty: the certificate is checked by WebPKI.
	Pins []identity.Fingerprint
}

// ParseURL reads a connection string. Its errors never repeat the token.
func ParseURL(s string) (URL, error) {
	const hint = "a connection string looks like bradawl://TOKEN@HOST:PORT?pin=PIN"
	if s == "" {
		return URL{}, errors.New("connection string is empty; " + hint)
	}
	u, err := url.Parse(s)
	if err != nil { // url.Parse's error repeats the input, which is secret
		return URL{}, errors.New("connection string cannot be read; " + hint)
	}
	if u.Scheme != Scheme {
		return URL{}, fmt.Errorf("connection string does not begin with %s://; %s", Scheme, hint)
	}
	if _, password := u.User.Password(); u.User.Username() == "" || password {
		return URL{}, errors.New("connection string has no token before the @; " + hint)
	}
	if u.Hostname() == "" {
		return URL{}, errors.New("connection string names no host; " + hint)
	}
	if u.Path != "" && u.Path != "/" || u.Fragment != "" {
		return URL{}, errors.New("connection string has a path after the host; " + hint)
	}
	out := URL{Token: u.User.Username(), Host: net.JoinHostPort(u.Hostname(), strconv.Itoa(DefaultPort))}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return URL{}, fmt.Errorf("connection string has port %s, must be 1 to 65535", p)
		}
		out.Host = net.JoinHostPort(u.Hostname(), p)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return URL{}, errors.New("connection string has an unreadable part after the ?; " + hint)
	}
	for key, values := range query {
		if key != "pin" {
			return URL{}, fmt.Errorf("connection string has the unknown parameter %q; known: pin", key)
		}
		for _, v := range values {
			pin, err := identity.ParseFingerprint(v)
			if err != nil {
				return URL{}, fmt.Errorf("connection string has an unreadable pin: %w", err)
			}
			out.Pins = append(out.Pins, pin)
		}
	}
	return out, nil
}

// Secret returns the whole connection string, token included: for a file or a terminal, never for a log.
func (u URL) Secret() string { return u.format(u.Token) }

// String returns the connection string with the token redacted.
func (u URL) String() string { return u.format("redacted") }

// GoString returns what String returns, so that %#v shows no token either.
func (u URL) GoString() string { return u.String() }

func (u URL) format(token string) string {
	q := url.Values{}
	for _, p := range u.Pins {
		q.Add("pin", p.String())
	}
	out := url.URL{Scheme: Scheme, User: url.User(token), Host: u.Host, RawQuery: q.Encode()}
	return out.String()
}
