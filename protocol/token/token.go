package token

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Why a token is refused. Errors of Verify and Allows wrap one of these.
var (
	ErrMalformed   = errors.New("token is malformed")
	ErrSignature   = errors.New("token is signed with another key")
	ErrExpired     = errors.New("token has expired")
	ErrNotYetValid = errors.New("token is not valid yet")
	ErrGroup       = errors.New("token is for another group")
	ErrName        = errors.New("token is for another name")
)

const issuer = "bradawl"

// Leeway is how far the clocks of who mints and who checks may disagree.
const Leeway = 30 * time.Second

// Claims are what a token says.
type Claims struct {
	// Group and Name are patterns as of path.Match, "*" for any. Group and peer names have no slash.
	Group, Name string
	// IssuedAt is when it was minted; zero means now, in Mint.
	IssuedAt time.Time
	// Expires is when it ends; it must be set.
	Expires time.Time
	// ID appears in the server's log; empty means a random one, in Mint.
	ID string
}

type wireClaims struct {
	Group string `json:"grp"`
	jwt.RegisteredClaims
}

// Mint signs a token.
func Mint(key ed25519.PrivateKey, c Claims) (string, error) {
	if len(key) != ed25519.PrivateKeySize {
		return "", fmt.Errorf("mint token: key has %d bytes, must have %d", len(key), ed25519.PrivateKeySize)
	}
	if c.Expires.IsZero() {
		return "", errors.New("mint token: no expiry given")
	}
	for what, pattern := range map[string]string{"group": c.Group, "name": c.Name} {
		if err := checkPattern(what, pattern); err != nil {
			return "", fmt.Errorf("mint token: %w", err)
		}
	}
	if c.IssuedAt.IsZero() {
		c.IssuedAt = time.Now()
	}
	if c.ID == "" {
		c.ID = rand.Text()
	}
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, wireClaims{
		Group: c.Group,
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    issuer,
			Subject:   c.Name,
			ID:        c.ID,
			IssuedAt:  jwt.NewNumericDate(c.IssuedAt),
			ExpiresAt: jwt.NewNumericDate(c.Expires),
		},
	})
	t.Header["kid"] = KeyID(key.Public().(ed25519.PublicKey))
	signed, err := t.SignedString(key)
	if err != nil {
		return "", fmt.Errorf("mint token: %w", err)
	}
	return signed, nil
}

// KeyID is the kid of a key: it tells keys apart, it proves nothing.
func KeyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return base64.RawURLEncoding.EncodeToString(sum[:])[:16]
}

// Verifier checks tokens by the public keys that it was made with. It is immutable and safe for concurrent
// use; the zero value refuses every token.
type Verifier struct{ keys map[string]ed25519.PublicKey }

// NewVerifier accepts tokens signed with any of the keys, so that they can be rotated.
func NewVerifier(keys ...ed25519.PublicKey) *Verifier {
	v := &Verifier{keys: make(map[string]ed25519.PublicKey, len(keys))}
	for _, k := range keys {
		v.keys[KeyID(k)] = k
	}
	return v
}

// Verify checks signature and dates. The error wraps one of this package's and never repeats the token.
func (v *Verifier) Verify(tok string, now time.Time) (Claims, error) {
	var w wireClaims
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
		jwt.WithIssuer(issuer),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(Leeway),
		jwt.WithTimeFunc(func() time.Time { return now }),
	)
	_, err := parser.ParseWithClaims(tok, &w, func(t *jwt.Token) (any, error) {
		kid, _ := t.Header["kid"].(string)
		key, ok := v.keys[kid]
		if !ok {
			return nil, ErrSignature
		}
		return key, nil
	})
	switch {
	case err == nil:
	case errors.Is(err, ErrSignature), errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return Claims{}, ErrSignature
	case errors.Is(err, jwt.ErrTokenExpired):
		return Claims{}, fmt.Errorf("%w at %s", ErrExpired, w.ExpiresAt.UTC().Format(time.RFC3339))
	case errors.Is(err, jwt.ErrTokenUsedBeforeIssued), errors.Is(err, jwt.ErrTokenNotValidYet):
		return Claims{}, ErrNotYetValid
	default:
		return Claims{}, ErrMalformed
	}
	if checkPattern("group", w.Group) != nil || checkPattern("name", w.Subject) != nil {
		return Claims{}, ErrMalformed
	}
	c := Claims{Group: w.Group, Name: w.Subject, ID: w.ID, Expires: w.ExpiresAt.Time}
	if w.IssuedAt != nil {
		c.IssuedAt = w.IssuedAt.Time
	}
	return c, nil
}

// Allows checks that the token covers a group and a name; the error wraps ErrGroup or ErrName.
func (c Claims) Allows(group, name string) error {
	if ok, err := path.Match(c.Group, group); err != nil || !ok {
		return fmt.Errorf("%w: it covers %q, not %q", ErrGroup, c.Group, group)
	}
	if ok, err := path.Match(c.Name, name); err != nil || !ok {
		return fmt.Errorf("%w: it covers %q, not %q", ErrName, c.Name, name)
	}
	return nil
}

func checkPattern(what, pattern string) error {
	if pattern == "" {
		return fmt.Errorf("%s pattern is empty; \"*\" stands for any", what)
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return fmt.Errorf("%s pattern %q: %w", what, pattern, err)
	}
	return nil
}
