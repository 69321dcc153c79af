package protocol

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// SessionID names one pair's attempt to connect; it is not secret.
type SessionID [16]byte

// SessionKey is the key of the INITs' MESSAGE-INTEGRITY in one attempt. It
// prints as "redacted".
type SessionKey [32]byte

// NewSessionID returns a random id. It does not fail: see crypto/rand.Read.
func NewSessionID() (id SessionID) {
	_, _ = rand.Read(id[:])
	return id
}

// NewSessionKey returns a random key.
func NewSessionKey() (k SessionKey) {
	_, _ = rand.Read(k[:])
	return k
}

// String returns the id as 32 lower-case hexadecimal digits.
func (id SessionID) String() string { return hex.EncodeToString(id[:]) }

// ParseSessionID reads what String wrote.
func ParseSessionID(s string) (id SessionID, err error) {
	if len(s) != 2*len(id) {
		return SessionID{}, fmt.Errorf("session id has %d characters, must have %d", len(s), 2*len(id))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return SessionID{}, fmt.Errorf("session id: %w", err)
	}
	return id, nil
}

// SessionIDFromBytes copies an id of a message.
func SessionIDFromBytes(b []byte) (id SessionID, err error) {
	if len(b) != len(id) {
		return SessionID{}, fmt.Errorf("session id has %d bytes, must have %d", len(b), len(id))
	}
	return SessionID(b), nil
}

// SessionKeyFromBytes copies a key of a message.
func SessionKeyFromBytes(b []byte) (k SessionKey, err error) {
	if len(b) != len(k) {
		return SessionKey{}, fmt.Errorf("session key has %d bytes, must have %d", len(b), len(k))
	}
	return SessionKey(b), nil
}

// String returns "redacted", so that no log shows the key.
func (SessionKey) String() string { return "redacted" }

// GoString returns "redacted".
func (SessionKey) GoString() string { return "redacted" }
