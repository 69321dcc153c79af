package client

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/bradawl/bradawl/protocol"
)

func padding(t testing.TB, key protocol.SessionKey, dialler bool) []byte {
	t.Helper()
	b, err := proofBytes(key, dialler)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOnlyTheRightProofPasses(t *testing.T) {
	key := protocol.NewSessionKey()
	want := padding(t, key, true)
	if len(want) != 1404 || string(want[:4]) != proofMagic {
		t.Fatalf("proof has %d bytes and begins with %q", len(want), want[:4])
	}
	if bytes.Equal(want, padding(t, key, false)) {
		t.Error("both roles send the same padding: an echo would pass")
	}
	if bytes.Equal(want, padding(t, protocol.NewSessionKey(), true)) {
		t.Error("two keys have the same padding")
	}
	flipped := bytes.Clone(want)
	flipped[1403] ^= 1
	for _, tc := range []struct {
		name      string
		stream    []byte
		ok, heard bool
	}{
		{"right", append(bytes.Clone(want), 1), true, true},
		{"without the last byte", want, false, true},
		{"another last byte", append(bytes.Clone(want), 2), false, true},
		{"too long", append(bytes.Clone(want), 1, 1), false, true},
		{"one bit wrong", append(flipped, 1), false, false},
		{"cut off", want[:1000], false, false},
		{"empty", nil, false, false},
	} {
		heard := false
		err := readProof(bytes.NewReader(tc.stream), want, func() error { heard = true; return nil })
		if (err == nil) != tc.ok || heard != tc.heard {
			t.Errorf("%s: %v, half way: %v", tc.name, err, heard)
		}
	}
	stop := errors.New("stop")
	if err := readProof(bytes.NewReader(want), want, func() error { return stop }); !errors.Is(err, stop) {
		t.Errorf("half way failed, but the proof says %v", err)
	}
}

// FuzzProof checks that nothing but the one right stream passes.
func FuzzProof(f *testing.F) {
	want := padding(f, protocol.SessionKey{1}, true)
	f.Add(append(bytes.Clone(want), 1))
	f.Add(want)
	f.Add([]byte("BRPF"))
	f.Fuzz(func(t *testing.T, b []byte) {
		right := len(b) == len(want)+1 && bytes.Equal(b[:len(want)], want) && b[len(want)] == proofDone
		in := bytes.NewReader(b)
		if err := readProof(io.NopCloser(in), want, func() error { return nil }); (err == nil) != right {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	})
}
