package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"net/netip"
	"time"

	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/token"
	"github.com/bradawl/bradawl/server/rendezvous"
)

// serve runs a rendezvous on a public host of the lab until ctx ends; stopped then says how it ended.
func serve(ctx context.Context, lab *natlab.Lab) (url string, stopped <-chan error, err error) {
	host, err := lab.AddHost("rendezvous")
	if err != nil {
		return "", nil, err
	}
	at := netip.AddrPortFrom(host.Addr(), 3478)
	pc, err := host.ListenUDP(at)
	if err != nil {
		return "", nil, err
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", nil, err
	}
	id, err := identity.New()
	if err != nil {
		return "", nil, err
	}
	r, err := rendezvous.New(rendezvous.Config{PacketConn: pc, Identity: id, Verifier: token.NewVerifier(pub)})
	if err != nil {
		return "", nil, err
	}
	tok, err := token.Mint(key, token.Claims{Group: "greet", Name: "*", Expires: time.Now().Add(time.Hour)})
	if err != nil {
		return "", nil, err
	}
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx) }()
	return protocol.URL{Token: tok, Host: at.String(), Pins: []identity.Fingerprint{id.Fingerprint()}}.Secret(), done, nil
}
