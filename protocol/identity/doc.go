// Package identity holds the keys that peers and servers prove to one another:
// self-signed certificates, their fingerprints, and the only TLS configurations
// that bradawl uses.
//
// A fingerprint is the SHA-256 of a certificate's SubjectPublicKeyInfo (the
// form of RFC 7469's pins). Who dials with pins accepts exactly these keys;
// without pins the WebPKI decides. Who listens asks for a certificate, and the
// caller decides by its fingerprint. All is TLS 1.3, without session tickets,
// so that every connection proves its key anew.
package identity
