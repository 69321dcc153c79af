package natlab_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/bradawl/bradawl/internal/natlab"
)

// Two endpoints learn each other's mapping from a server, send to it, and answer what comes.
// Whether packets then pass both ways depends on their NATs as RFC 5128, section 3.3, says.
func TestHolePunching(t *testing.T) {
	t.Parallel()
	kinds := []natlab.NAT{
		natlab.FullCone(), natlab.AddressRestricted(), natlab.PortRestricted(), natlab.PortRestrictedNoDrop(), natlab.Symmetric(),
	}
	names := []string{"full cone", "address-restricted", "port-restricted", "no drop", "symmetric"}
	const symmetric, portRestricted, noDrop = 4, 2, 3
	l := newLab(t)
	server := listen(t, addHost(t, l, "server"))
	for i := range kinds {
		for j := i; j < len(kinds); j++ {
			works := j != symmetric || i < portRestricted
			if j == noDrop {
				works = false // one of the first packets comes before the other side has sent
			}
			if j == noDrop && i < portRestricted {
				works = true // it is let in
			}
			t.Run(names[i]+" and "+names[j], func(t *testing.T) {
				var e [2]*endpoint
				for k, n := range []int{i, j} {
					e[k] = listen(t, addHost(t, addSite(t, l, natlab.SiteConfig{Name: names[n], NAT: kinds[n]}), names[n]))
				}
				m0, m1 := e[0].observe(server), e[1].observe(server)
				e[0].send(m1, "first")
				for range 2 {
					e[1].send(m0, "punch")
					e[0].send(m1, "punch")
				}
				// Each answers where packets came from, which need not be where the server saw the other.
				got := [2]map[string]netip.AddrPort{}
				for round := range 2 {
					for k, m := range []netip.AddrPort{m0, m1} {
						last := fmt.Sprint("last ", round)
						server.send(m, last)
						for what, from := range e[k].until(last) {
							if got[k] == nil {
								got[k] = make(map[string]netip.AddrPort)
							}
							got[k][what] = from
							e[k].send(from, "answer")
						}
					}
				}
				if both := len(got[0]) > 0 && len(got[1]) > 0; both != works {
					t.Errorf("punched: %v, want %v; got %v and %v", both, works, got[0], got[1])
				}
			})
		}
	}
}

func TestLabIsBuiltByManyAtOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	self := listen(t, l.Self())
	var builders sync.WaitGroup
	for i := range 8 {
		builders.Go(func() {
			cfg := natlab.SiteConfig{Name: fmt.Sprint(i), NAT: natlab.PortRestricted(), Link: natlab.Link{Delay: 1}}
			site, err := l.AddSite(cfg)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := site.AddHost("a"); err != nil {
				t.Error(err)
			}
			h, err := l.AddHost("public")
			if err != nil {
				t.Error(err)
				return
			}
			if i%2 == 0 {
				if err := h.Close(); err != nil {
					t.Error(err)
				}
				if err := site.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	builders.Wait()
	e := listen(t, addHost(t, addSite(t, l, natlab.SiteConfig{}), "a"))
	e.observe(self)
}
