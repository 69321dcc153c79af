package identity

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"
)

// Identity is a key pair with a self-signed certificate for it. It is immutable and safe for concurrent use;
// the zero value is not usable.
type Identity struct {
	certificate tls.Certificate
	fingerprint Fingerprint
}

// Validity of the certificates that New and Create make. The pin is what counts; the dates only have to
// survive clocks that are wrong by a day and servers that run for years.
const (
	backdate = 24 * time.Hour
	validity = 10 * 365 * 24 * time.Hour
)

// New makes a fresh Ed25519 key and a self-signed certificate for it, both only in memory. Ed25519 because its
// certificates are the smallest, and making and checking its signatures is the quickest, of what TLS 1.3 offers.
func New() (*Identity, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make identity key: %w", err)
	}
	return fromKey(key, time.Now().Add(-backdate), time.Now().Add(validity))
}

func fromKey(key crypto.Signer, notBefore, notAfter time.Time) (*Identity, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 63))
	if err != nil {
		return nil, fmt.Errorf("make certificate serial: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "bradawl"},
		NotBefore:    notBefore,
		NotAfter:     notAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return FromCertificate(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})
}

// FromCertificate makes an Identity of a certificate and its key, for example one that a CA has signed.
func FromCertificate(c tls.Certificate) (*Identity, error) {
	if len(c.Certificate) == 0 || c.PrivateKey == nil {
		return nil, fmt.Errorf("identity needs a certificate and its key")
	}
	if c.Leaf == nil {
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			return nil, fmt.Errorf("read certificate: %w", err)
		}
		c.Leaf = leaf
	}
	return &Identity{certificate: c, fingerprint: FingerprintOf(c.Leaf)}, nil
}

// Fingerprint returns what the other side pins.
func (i *Identity) Fingerprint() Fingerprint { return i.fingerprint }

// Certificate returns the certificate with its key; the caller must not change it.
func (i *Identity) Certificate() tls.Certificate { return i.certificate }
