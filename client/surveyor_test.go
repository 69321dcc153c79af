package client_test

import (
	"net/netip"
	"testing"

	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/server/rendezvous"
	"github.com/bradawl/bradawl/server/rendezvous/rendezvoustest"
)

// startWithOther starts a rendezvous in the world's lab whose STUN socket on another address is on the other host;
// without one it has neither another address nor another port.
func startWithOther(t *testing.T, w *world, other *natlab.Host) *rendezvoustest.Server {
	t.Helper()
	host, err := w.lab.AddHost("rendezvous for a survey")
	must(t, err)
	return rendezvoustest.Start(t, host, func(cfg *rendezvous.Config) {
		if other == nil {
			must(t, cfg.AltPacketConn.Close())
			cfg.AltPacketConn = nil
			return
		}
		pc, err := other.ListenUDP(netip.AddrPort{})
		must(t, err)
		cfg.OtherPacketConn = pc
	})
}
