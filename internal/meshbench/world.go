package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/token"
	"github.com/bradawl/bradawl/server/rendezvous"
)

// world is a lab of one port-restricted NAT and host per peer, with a rendezvous in this process.
type world struct {
	lab   *natlab.Lab
	sites []*natlab.Site
	hosts []*natlab.Host
	url   string

	cancel  context.CancelFunc
	serving errgroup.Group
}

func newWorld(s shape) (_ *world, err error) {
	w := &world{cancel: func() {}}
	if w.lab, err = natlab.New(natlab.Config{}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = w.close()
		}
	}()
	for _, p := range s.places {
		site, err := w.lab.AddSite(natlab.SiteConfig{Name: p.name, NAT: natlab.PortRestricted()})
		if err != nil {
			return nil, fmt.Errorf("after %d sites: %w", p.index, err)
		}
		host, err := site.AddHost(p.name)
		if err != nil {
			return nil, fmt.Errorf("after %d hosts: %w", p.index, err)
		}
		w.sites, w.hosts = append(w.sites, site), append(w.hosts, host)
	}
	return w, w.serve()
}

func (w *world) serve() error {
	host, err := w.lab.AddHost("rendezvous")
	if err != nil {
		return err
	}
	main, err := host.ListenUDP(netip.AddrPort{})
	if err != nil {
		return err
	}
	alt, err := host.ListenUDP(netip.AddrPort{})
	if err != nil {
		return err
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	id, err := identity.New()
	if err != nil {
		return err
	}
	r, err := rendezvous.New(rendezvous.Config{PacketConn: main, AltPacketConn: alt, Identity: id, Verifier: token.NewVerifier(pub)})
	if err != nil {
		return err
	}
	tok, err := token.Mint(key, token.Claims{Group: "*", Name: "*", Expires: time.Now().Add(12 * time.Hour)})
	if err != nil {
		return err
	}
	w.url = protocol.URL{Token: tok, Host: main.LocalAddr().String(), Pins: []identity.Fingerprint{id.Fingerprint()}}.Secret()
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	w.serving.Go(func() error { return r.Serve(ctx) })
	return nil
}

func (w *world) close() error {
	w.cancel()
	err := w.serving.Wait()
	if cerr := w.lab.Close(); err == nil {
		err = cerr
	}
	return err
}
