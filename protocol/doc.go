// Package protocol is bradawl's wire format, without I/O of its own: the
// framing of the control stream, the clock datagrams, the INIT packets (STUN),
// the connection string and the reasons for which a connection can fail.
//
// SPEC.md beside this file describes every byte. The messages of the control
// stream are in control.proto and, generated from it, in package pb; keys and
// certificates are in package identity, tokens in package token.
//
// Everything here that decodes takes hostile bytes: it is bounded, fuzzed and
// does not panic. Nothing here keeps state; all functions are safe for
// concurrent use.
package protocol

//go:generate go run ../internal/generate
