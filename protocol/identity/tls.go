package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// DialConfig returns the TLS configuration of the side that dials. id is the
// certificate to show, nil for none. With pins, exactly these keys are accepted,
// whatever the certificate says beside its dates; without pins the certificate
// is checked for serverName by the system's roots. A handshake with a key that
// is not pinned fails with a *PinError.
//
// Pins need InsecureSkipVerify, because Go has no other way to do without a CA.
// It stands in this function only, and always together with VerifyConnection.
func DialConfig(id *Identity, serverName, alpn string, pins ...Fingerprint) *tls.Config {
	c := &tls.Config{
		ServerName:             serverName,
		NextProtos:             []string{alpn},
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
	}
	if id != nil {
		c.Certificates = []tls.Certificate{id.certificate}
	}
	if len(pins) > 0 {
		pins = slices.Clone(pins)
		c.InsecureSkipVerify = true // VerifyConnection checks the pin instead
		c.VerifyConnection = func(s tls.ConnectionState) error {
			return checkPinned(s, func(got Fingerprint) error {
				if !slices.Contains(pins, got) {
					return &PinError{Got: got, Want: pins}
				}
				return nil
			})
		}
	}
	return c
}

// ListenConfig returns the TLS configuration of the side that listens. It
// requires a certificate of the other side, has TLS prove that the other side
// holds its key, and lets verify decide by the fingerprint; the error of verify
// fails the handshake. verify must be safe for concurrent use.
func ListenConfig(id *Identity, alpn string, verify func(Fingerprint, tls.ConnectionState) error) *tls.Config {
	return &tls.Config{
		Certificates:           []tls.Certificate{id.certificate},
		NextProtos:             []string{alpn},
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		ClientAuth:             tls.RequireAnyClientCert,
		VerifyConnection: func(s tls.ConnectionState) error {
			return checkPinned(s, func(got Fingerprint) error { return verify(got, s) })
		},
	}
}

// checkPinned does for a self-signed certificate what the WebPKI would do beside naming: one certificate is
// there and its dates are right.
func checkPinned(s tls.ConnectionState, decide func(Fingerprint) error) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("the other side showed no certificate")
	}
	leaf := s.PeerCertificates[0]
	if err := checkDates(leaf, time.Now()); err != nil {
		return err
	}
	return decide(FingerprintOf(leaf))
}

func checkDates(c *x509.Certificate, now time.Time) error {
	if now.Before(c.NotBefore) || now.After(c.NotAfter) {
		return fmt.Errorf("the other side's certificate is valid from %s to %s, not now",
			c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}
