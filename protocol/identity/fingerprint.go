package identity

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
)

// Fingerprint is the SHA-256 of a certificate's SubjectPublicKeyInfo. The zero value matches no key.
type Fingerprint [sha256.Size]byte

// FingerprintOf returns the fingerprint of a certificate's key.
func FingerprintOf(c *x509.Certificate) Fingerprint {
	return sha256.Sum256(c.RawSubjectPublicKeyInfo)
}

// PeerFingerprint returns the fingerprint of the key that the other side of a connection has proven.
func PeerFingerprint(s tls.ConnectionState) (Fingerprint, error) {
	if len(s.PeerCertificates) == 0 {
		return Fingerprint{}, errors.New("the other side showed no certificate")
	}
	return FingerprintOf(s.PeerCertificates[0]), nil
}

// FingerprintFromBytes copies a fingerprint of a message; it must have 32 bytes.
func FingerprintFromBytes(b []byte) (f Fingerprint, err error) {
	if len(b) != len(f) {
		return Fingerprint{}, fmt.Errorf("fingerprint has %d bytes, must have %d", len(b), len(f))
	}
	return Fingerprint(b), nil
}

// ParseFingerprint reads what String wrote.
func ParseFingerprint(s string) (f Fingerprint, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(f) {
		return Fingerprint{}, fmt.Errorf("pin %q is not the base64url SHA-256 of a key, which has 43 characters", s)
	}
	return Fingerprint(b), nil
}

// String returns the fingerprint as 43 characters of base64url without padding.
func (f Fingerprint) String() string { return base64.RawURLEncoding.EncodeToString(f[:]) }

// PinError says that the other side proved a key that is none of the pinned ones.
type PinError struct {
	// Got is the key that was proven.
	Got Fingerprint
	// Want are the keys that would have been accepted.
	Want []Fingerprint
}

// Error names the proven key, so that a rotated one can be recognised.
func (e *PinError) Error() string {
	return fmt.Sprintf("the other side proved key %s, which is none of the %d pinned ones", e.Got, len(e.Want))
}
