package identity

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/bradawl/bradawl/protocol/keyfile"
)

// LoadOrCreate reads an identity from two PEM files, or makes one and writes it there when neither exists.
// One without the other, and a key that others than its owner may read, are errors. The boolean says whether it was made.
func LoadOrCreate(certFile, keyFile string) (*Identity, bool, error) {
	_, certErr := os.Stat(certFile)
	_, keyErr := os.Stat(keyFile)
	switch {
	case errors.Is(certErr, fs.ErrNotExist) && errors.Is(keyErr, fs.ErrNotExist):
		id, err := New()
		if err != nil {
			return nil, false, err
		}
		return id, true, id.save(certFile, keyFile)
	case errors.Is(certErr, fs.ErrNotExist) || errors.Is(keyErr, fs.ErrNotExist):
		return nil, false, fmt.Errorf("of certificate %s and key %s only one exists; restore the other or remove both to make new ones", certFile, keyFile)
	}
	id, err := Load(certFile, keyFile)
	return id, false, err
}

// Load reads an identity from two PEM files.
func Load(certFile, keyFile string) (*Identity, error) {
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	keyPEM, err := keyfile.Read(keyFile)
	if err != nil {
		return nil, err
	}
	c, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("certificate %s and key %s: %w", certFile, keyFile, err)
	}
	return FromCertificate(c)
}

// save writes the key first: a certificate alone is refused by LoadOrCreate, so an interruption is noticed.
func (i *Identity) save(certFile, keyFile string) error {
	key, err := x509.MarshalPKCS8PrivateKey(i.certificate.PrivateKey)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	if err := keyfile.Write(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})); err != nil {
		return err
	}
	return keyfile.Write(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.certificate.Certificate[0]}))
}
