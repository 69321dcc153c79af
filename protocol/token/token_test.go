package token

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func testKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune('a'+n)), 32)))
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func mint(t *testing.T, key ed25519.PrivateKey, c Claims) string {
	t.Helper()
	tok, err := Mint(key, c)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestVerifyAcceptsWhatAnyOfItsKeysSigned(t *testing.T) {
	v := NewVerifier(public(testKey(0)), public(testKey(1)))
	for n := range byte(2) {
		want := Claims{Group: "job-*", Name: "map-?", IssuedAt: epoch, Expires: epoch.Add(time.Hour), ID: "id"}
		got, err := v.Verify(mint(t, testKey(n), want), epoch.Add(time.Minute))
		if err != nil || got.Group != want.Group || got.Name != want.Name || got.ID != want.ID || !got.Expires.Equal(want.Expires) || !got.IssuedAt.Equal(want.IssuedAt) {
			t.Errorf("key %d: %+v, %v", n, got, err)
		}
	}
}

func TestVerifyRefusesByKind(t *testing.T) {
	key := testKey(0)
	v := NewVerifier(public(key))
	good := mint(t, key, Claims{Group: "*", Name: "*", IssuedAt: epoch, Expires: epoch.Add(time.Hour)})
	parts := strings.Split(good, ".")
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT","kid":"`+KeyID(public(key))+`"}`)) + "." + parts[1] + "."
	hmac := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"iss": issuer, "grp": "*", "sub": "*", "exp": epoch.Add(time.Hour).Unix()})
	hmac.Header["kid"] = KeyID(public(key))
	confused, err := hmac.SignedString([]byte(public(key))) // the public key as an HMAC secret
	if err != nil {
		t.Fatal(err)
	}
	raw := func(claims jwt.MapClaims) string {
		tok := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
		tok.Header["kid"] = KeyID(public(key))
		s, err := tok.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for name, c := range map[string]struct {
		tok  string
		at   time.Duration
		want error
	}{
		"expired":                   {good, 2 * time.Hour, ErrExpired},
		"not yet valid":             {good, -time.Hour, ErrNotYetValid},
		"another key":               {mint(t, testKey(5), Claims{Group: "*", Name: "*", IssuedAt: epoch, Expires: epoch.Add(time.Hour)}), 0, ErrSignature},
		"another signature":         {parts[0] + "." + parts[1] + "." + strings.Repeat("A", len(parts[2])), 0, ErrSignature},
		"no signature (alg none)":   {unsigned, 0, ErrSignature},
		"HMAC under the public key": {confused, 0, ErrSignature},
		"empty":                     {"", 0, ErrMalformed},
		"two parts":                 {parts[0] + "." + parts[1], 0, ErrMalformed},
		"no expiry":                 {raw(jwt.MapClaims{"iss": issuer, "grp": "*", "sub": "*"}), 0, ErrMalformed},
		"another issuer":            {raw(jwt.MapClaims{"iss": "x", "grp": "*", "sub": "*", "exp": epoch.Add(time.Hour).Unix()}), 0, ErrMalformed},
		"no group":                  {raw(jwt.MapClaims{"iss": issuer, "sub": "*", "exp": epoch.Add(time.Hour).Unix()}), 0, ErrMalformed},
		"bad pattern":               {raw(jwt.MapClaims{"iss": issuer, "grp": "[", "sub": "*", "exp": epoch.Add(time.Hour).Unix()}), 0, ErrMalformed},
	} {
		if _, err := v.Verify(c.tok, epoch.Add(c.at)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		} else if c.tok != "" && strings.Contains(err.Error(), c.tok) {
			t.Errorf("%s: the error repeats the token", name)
		}
	}
	if _, err := (&Verifier{}).Verify(good, epoch); err == nil {
		t.Error("a verifier without keys accepts")
	}
}

func TestAllowsMatchesGroupAndName(t *testing.T) {
	for _, c := range []struct {
		claims      Claims
		group, name string
		want        error
	}{
		{Claims{Group: "*", Name: "*"}, "g", "n", nil},
		{Claims{Group: "job-7", Name: "map-*"}, "job-7", "map-12-1", nil},
		{Claims{Group: "job-7", Name: "map-*"}, "job-8", "map-12-1", ErrGroup},
		{Claims{Group: "job-7", Name: "map-*"}, "job-7", "reduce-1", ErrName},
		{Claims{}, "", "n", ErrName},
		{Claims{}, "g", "", ErrGroup},
	} {
		if err := c.claims.Allows(c.group, c.name); !errors.Is(err, c.want) {
			t.Errorf("%+v for %s/%s: %v, want %v", c.claims, c.group, c.name, err, c.want)
		}
	}
}

func TestMintRefusesWhatNobodyCouldUse(t *testing.T) {
	for name, c := range map[string]Claims{
		"no expiry":   {Group: "*", Name: "*"},
		"no group":    {Name: "*", Expires: epoch},
		"no name":     {Group: "*", Expires: epoch},
		"bad pattern": {Group: "[", Name: "*", Expires: epoch},
	} {
		if tok, err := Mint(testKey(0), c); err == nil {
			t.Errorf("%s: %s", name, tok)
		}
	}
	if _, err := Mint(nil, Claims{Group: "*", Name: "*", Expires: epoch}); err == nil {
		t.Error("no key: accepted")
	}
}

func TestSigningKeyIsMadeOnceAndThenRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token.key")
	first, err := LoadOrCreateKey(file)
	if err != nil {
		t.Fatal(err)
	}
	second, err := LoadOrCreateKey(file)
	if err != nil || !first.Equal(second) {
		t.Errorf("the key changed, %v", err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for name, content := range map[string]string{"no PEM": "hello", "no PKCS #8": "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n"} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadOrCreateKey(file); err == nil {
			t.Errorf("%s: accepted, or replaced", name)
		}
	}
}

func FuzzVerify(f *testing.F) {
	key := testKey(0)
	tok, _ := Mint(key, Claims{Group: "*", Name: "*", IssuedAt: epoch, Expires: epoch.Add(time.Hour), ID: "x"})
	f.Add(tok)
	f.Add("a.b.c")
	v := NewVerifier(public(key))
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := v.Verify(s, epoch); err == nil && s != tok {
			// Base64 without the strict flag has several spellings of the last character; the signed part must be ours.
			if strings.Join(strings.Split(s, ".")[:2], ".") != strings.Join(strings.Split(tok, ".")[:2], ".") {
				t.Errorf("%q is accepted", s)
			}
		}
	})
}
