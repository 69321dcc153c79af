package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func mustNew(t *testing.T) *Identity {
	t.Helper()
	id, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// withDates makes an identity that is valid between two instants.
func withDates(t *testing.T, from, to time.Time) *Identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := fromKey(key, from, to)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// handshake runs TLS over a loopback connection and returns both sides' errors; each side also reads once,
// because in TLS 1.3 the dialler learns of a refusal only then.
func handshake(t *testing.T, dial, listen *tls.Config) (dialErr, listenErr error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			done <- err
			return
		}
		defer conn.Close()
		server := tls.Server(conn, listen)
		if err = server.Handshake(); err == nil {
			_, err = server.Write([]byte{1})
		}
		done <- err
	}()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client := tls.Client(conn, dial)
	if dialErr = client.Handshake(); dialErr == nil {
		_, dialErr = client.Read(make([]byte, 1))
	}
	_ = conn.Close()
	return dialErr, <-done
}

func TestOnlyThePinnedKeyIsAccepted(t *testing.T) {
	const alpn = "test/1"
	dialler, listener, stranger := mustNew(t), mustNew(t), mustNew(t)
	expired := withDates(t, time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour))
	early := withDates(t, time.Now().Add(24*time.Hour), time.Now().Add(48*time.Hour))
	acceptOnly := func(want Fingerprint) func(Fingerprint, tls.ConnectionState) error {
		return func(got Fingerprint, _ tls.ConnectionState) error {
			if got != want {
				return &PinError{Got: got, Want: []Fingerprint{want}}
			}
			return nil
		}
	}
	pin := listener.Fingerprint()
	for _, c := range []struct {
		name            string
		dial, listen    *tls.Config
		dialOK, pinFail bool
	}{
		{"both right", DialConfig(dialler, "x", alpn, pin), ListenConfig(listener, alpn, acceptOnly(dialler.Fingerprint())), true, false},
		{"one of two pins", DialConfig(dialler, "x", alpn, stranger.Fingerprint(), pin), ListenConfig(listener, alpn, acceptOnly(dialler.Fingerprint())), true, false},
		{"listener has another key", DialConfig(dialler, "x", alpn, pin), ListenConfig(stranger, alpn, acceptOnly(dialler.Fingerprint())), false, true},
		{"dialler has another key", DialConfig(stranger, "x", alpn, pin), ListenConfig(listener, alpn, acceptOnly(dialler.Fingerprint())), false, false},
		{"dialler shows no certificate", DialConfig(nil, "x", alpn, pin), ListenConfig(listener, alpn, acceptOnly(dialler.Fingerprint())), false, false},
		{"no pin, and no CA knows the key", DialConfig(dialler, "x", alpn), ListenConfig(listener, alpn, acceptOnly(dialler.Fingerprint())), false, false},
		{"zero pin", DialConfig(dialler, "x", alpn, Fingerprint{}), ListenConfig(listener, alpn, acceptOnly(dialler.Fingerprint())), false, true},
		{"listener expired", DialConfig(dialler, "x", alpn, expired.Fingerprint()), ListenConfig(expired, alpn, acceptOnly(dialler.Fingerprint())), false, false},
		{"listener not yet valid", DialConfig(dialler, "x", alpn, early.Fingerprint()), ListenConfig(early, alpn, acceptOnly(dialler.Fingerprint())), false, false},
		{"dialler expired", DialConfig(expired, "x", alpn, pin), ListenConfig(listener, alpn, acceptOnly(expired.Fingerprint())), false, false},
		{"other ALPN", DialConfig(dialler, "x", "test/2", pin), ListenConfig(listener, alpn, acceptOnly(dialler.Fingerprint())), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dialErr, listenErr := handshake(t, c.dial, c.listen)
			if ok := dialErr == nil && listenErr == nil; ok != c.dialOK {
				t.Errorf("dialler: %v; listener: %v", dialErr, listenErr)
			}
			var pinErr *PinError
			if errors.As(dialErr, &pinErr) != c.pinFail {
				t.Errorf("dialler's error %v; want a *PinError: %v", dialErr, c.pinFail)
			}
		})
	}
}

func TestFingerprintsComeBackAsTheyWere(t *testing.T) {
	f := mustNew(t).Fingerprint()
	if got, err := ParseFingerprint(f.String()); err != nil || got != f {
		t.Errorf("%s comes back as %s, %v", f, got, err)
	}
	for _, bad := range []string{"", "short", f.String() + "A", strings.Repeat("!", 43), f.String() + "="} {
		if _, err := ParseFingerprint(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestIdentityIsMadeOnceAndThenRead(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	first, made, err := LoadOrCreate(cert, key)
	if err != nil || !made {
		t.Fatalf("made %v, %v", made, err)
	}
	second, made, err := LoadOrCreate(cert, key)
	if err != nil || made || second.Fingerprint() != first.Fingerprint() {
		t.Fatalf("made %v, %v; fingerprints %s and %s", made, err, first.Fingerprint(), second.Fingerprint())
	}
	if err := os.Chmod(key, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadOrCreate(cert, key); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that the group may read: %v", err)
	}
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadOrCreate(cert, key); err == nil {
		t.Error("a key without its certificate is silently replaced")
	}
}
