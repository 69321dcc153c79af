package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/token"
	"github.com/bradawl/bradawl/server/rendezvous"
)

const (
	mainPort, altPort = 3478, 3479
	firstPort         = 20000
	// mappings outlast a run, so that the rendezvous and b stay where they are.
	mappings = 12 * time.Hour
)

// world is a scenario's lab with a rendezvous that runs in it.
type world struct {
	scenario
	lab   *natlab.Lab
	siteA *natlab.Site
	siteB *natlab.Site
	a, b  *natlab.Host

	url    string
	server netip.AddrPort // as the public sees it
	port   uint16         // of a's next socket

	cancel  context.CancelFunc
	serving errgroup.Group
}

func newWorld(s scenario, seed uint64) (_ *world, err error) {
	w := &world{scenario: s, port: firstPort, cancel: func() {}}
	if w.lab, err = natlab.New(natlab.Config{Seed: seed}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = w.close()
		}
	}()
	nat := natlab.PortRestricted()
	if w.siteA, w.a, err = w.site("a", nat, s.link(s.A)); err != nil {
		return nil, err
	}
	nat.MappingTimeout = mappings
	if w.siteB, w.b, err = w.site("b", nat, s.link(s.B)); err != nil {
		return nil, err
	}
	return w, w.serve()
}

func (w *world) site(name string, nat natlab.NAT, link natlab.Link) (*natlab.Site, *natlab.Host, error) {
	site, err := w.lab.AddSite(natlab.SiteConfig{Name: name, NAT: nat, Link: link})
	if err != nil {
		return nil, nil, err
	}
	host, err := site.AddHost(name)
	return site, host, err
}

// serve starts the rendezvous. A link has a delay only at a site, so it stands behind a full cone.
func (w *world) serve() error {
	nat := natlab.FullCone()
	nat.MappingTimeout = mappings
	site, host, err := w.site("server", nat, natlab.Link{Delay: w.Server})
	if err != nil {
		return err
	}
	open := func(port uint16) (*net.UDPConn, error) {
		pc, err := host.ListenUDP(netip.AddrPortFrom(host.Addr(), port))
		if err != nil {
			return nil, err
		}
		// One packet to anywhere makes the mapping; the NAT preserves the port.
		_, err = pc.WriteToUDPAddrPort([]byte{0}, netip.AddrPortFrom(w.siteA.PublicAddr(), 9))
		return pc, err
	}
	pc, err := open(mainPort)
	if err != nil {
		return err
	}
	alt, err := open(altPort)
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
	r, err := rendezvous.New(rendezvous.Config{PacketConn: pc, AltPacketConn: alt, Identity: id, Verifier: token.NewVerifier(pub)})
	if err != nil {
		return err
	}
	tok, err := token.Mint(key, token.Claims{Group: "*", Name: "*", Expires: time.Now().Add(mappings)})
	if err != nil {
		return err
	}
	w.server = netip.AddrPortFrom(site.PublicAddr(), mainPort)
	w.url = protocol.URL{Token: tok, Host: w.server.String(), Pins: []identity.Fingerprint{id.Fingerprint()}}.Secret()
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	w.serving.Go(func() error { return r.Serve(ctx) })
	return nil
}

// socketA opens a socket of a that no NAT has seen.
func (w *world) socketA() (*net.UDPConn, error) {
	w.port++
	return w.a.ListenUDP(netip.AddrPortFrom(w.a.Addr(), w.port))
}

// mapped is where the public sees a socket: the NATs preserve ports, and no two sockets here have the same.
func mapped(s *natlab.Site, pc *net.UDPConn) netip.AddrPort {
	return netip.AddrPortFrom(s.PublicAddr(), uint16(pc.LocalAddr().(*net.UDPAddr).Port))
}

func (w *world) close() error {
	w.cancel()
	err := w.serving.Wait()
	if cerr := w.lab.Close(); err == nil {
		err = cerr
	}
	return err
}
