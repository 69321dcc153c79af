package rendezvous

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

func addr6(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// proves has a peer prove an address as a client does that got a witness there.
func (p *peer) proves(a netip.AddrPort) { p.claims(a, p.l.witnessOf(a, stunMain, 0)) }

// witnessOf is what a socket of the server would have answered to an address, some time ago.
func (l *groupLab) witnessOf(a netip.AddrPort, by stunSocket, ago time.Duration) []byte {
	return l.g.witness.Make(a, byte(by), l.g.clock.now()-int64(ago))
}

func (p *peer) claims(a netip.AddrPort, witness []byte) {
	p.handle(&pb.ClientMessage{Body: &pb.ClientMessage_AddressProof{AddressProof: &pb.AddressProof{
		Second: &pb.Witnessed{Address: protocol.AddrToPB(a), Witness: witness}}}})
}

// secondAddr is the peer's address in its other family.
func (p *peer) secondAddr() netip.AddrPort {
	p.l.g.mu.Lock()
	defer p.l.g.mu.Unlock()
	return p.second
}

// all is what the peer was sent, without taking it.
func (p *peer) all() []*pb.ServerMessage {
	p.l.g.mu.Lock()
	defer p.l.g.mu.Unlock()
	return slices.Clone(p.sent)
}

// everybodyLeaves ends all that peers have begun.
func (l *groupLab) everybodyLeaves() {
	l.g.mu.Lock()
	members := slices.Collect(maps.Values(l.g.members))
	l.g.mu.Unlock()
	for _, m := range members {
		l.g.exit(m, time.Now())
	}
	time.Sleep(time.Minute)
}

// single moves a peer to one family's address.
func (p *peer) single(a string, only bool) *peer {
	p.l.g.step(func() { p.observed, p.oneFamily = netip.MustParseAddrPort(a), only })
	return p
}

func kinds(cs []*pb.Candidate) (out []string) {
	for _, c := range cs {
		a, _ := protocol.AddrFromPB(c.GetAddress())
		out = append(out, a.String())
	}
	return out
}

func TestOrdersNameTheFamiliesThatBothHave(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		defer l.everybodyLeaves()
		a, b := l.enter("a", ""), l.enter("b", "")
		a.single("198.51.100.1:1000", false)
		b.single("198.51.100.2:2000", false)
		if got := kinds(candidates(b.member, a.member)); len(got) != 1 {
			t.Errorf("candidates %v, want IPv4 alone", got)
		}
		b.proves(addr6("[2001:db8:2::2]:2000"))
		if got := kinds(candidates(b.member, a.member)); len(got) != 1 {
			t.Errorf("candidates %v for a peer without IPv6", got)
		}
		a.proves(addr6("[2001:db8:1::1]:1000"))
		got := kinds(candidates(b.member, a.member))
		if strings.Join(got, " ") != "[2001:db8:2::2]:2000 198.51.100.2:2000" {
			t.Errorf("candidates %v, want IPv6 before IPv4", got)
		}
	})
}

func TestProofsOfAddressesThatWereNotObservedAreIgnored(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		defer l.everybodyLeaves()
		a := l.enter("a", "")
		a.single("198.51.100.1:1000", false)
		mine, victim, v4 := addr6("[2001:db8:1::1]:1000"), addr6("[2001:db8:666::1]:53"), netip.MustParseAddrPort("198.51.100.9:9")
		good := l.witnessOf(mine, stunMain, 0)
		for name, c := range map[string]struct {
			a       netip.AddrPort
			witness []byte
		}{
			"another address":                 {victim, good},
			"another port":                    {netip.AddrPortFrom(mine.Addr(), 53), good},
			"another socket's mapping":        {mine, l.witnessOf(mine, stunAlternate, 0)},
			"an old witness":                  {mine, l.witnessOf(mine, stunMain, witnessAge+time.Second)},
			"no witness":                      {mine, nil},
			"half a witness":                  {mine, good[:12]},
			"no address":                      {netip.AddrPort{}, good},
			"the control connection's family": {v4, l.witnessOf(v4, stunMain, 0)},
			"a witness under another secret":  {mine, protocol.NewWitnessSecret().Make(mine, byte(stunMain), l.g.clock.now())},
		} {
			if a.claims(c.a, c.witness); a.secondAddr().IsValid() {
				t.Fatalf("%s: the server took %s", name, a.secondAddr())
			}
		}
		if a.claims(mine, good); a.secondAddr() != mine {
			t.Errorf("the right proof gave %s", a.secondAddr())
		}
	})
}

func TestAProvenAddressExpiresUnlessProvenAgain(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		defer l.everybodyLeaves()
		a := l.enter("a", "")
		a.single("198.51.100.1:1000", false)
		at := addr6("[2001:db8:1::1]:1000")
		a.proves(at)
		time.Sleep(addressLifetime - time.Second)
		a.proves(at)
		time.Sleep(addressLifetime - time.Second)
		synctest.Wait()
		if a.secondAddr() != at {
			t.Fatal("expired though it was proven again")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if a.secondAddr().IsValid() {
			t.Error("did not expire")
		}
		a.proves(at)
		a.leave()
		time.Sleep(2 * addressLifetime) // nothing happens to a peer that is gone
	})
}

func TestPeersWithoutACommonFamilyFailAtOnce(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		defer l.everybodyLeaves()
		a, b := l.enter("a", ""), l.enter("b", "")
		a.single("198.51.100.1:1000", true)
		b.single("[2001:db8:2::2]:2000", true)
		began := time.Now()
		a.handle(&pb.ClientMessage{Body: &pb.ClientMessage_Connect{Connect: &pb.Connect{RequestId: 7, Peer: "b"}}})
		r := lastRefusal(a)
		if r.GetRequestId() != 7 || r.GetReason() != pb.Reason_NO_INBOUND || !strings.Contains(r.GetDetail(), "a has only IPv4 and b only IPv6") {
			t.Errorf("refused with %v", r)
		}
		if time.Since(began) != 0 {
			t.Error("that took a while")
		}
	})
}

func lastRefusal(p *peer) *pb.Refused {
	var r *pb.Refused
	for _, m := range p.all() {
		if m.GetRefused() != nil {
			r = m.GetRefused()
		}
	}
	return r
}

func orders(p *peer) (n int) {
	for _, m := range p.all() {
		n += len(m.GetOrder().GetSessions())
	}
	return n
}

func TestAConnectWaitsForAnAddressThatMayComeYet(t *testing.T) {
	for name, asker := range map[string]string{"asked by the peer of both": "b", "asked by the other": "a"} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(t *testing.T, l *groupLab) {
				defer l.everybodyLeaves()
				a, b := l.enter("a", ""), l.enter("b", "")
				a.single("[2001:db8:1::1]:1000", true)
				b.single("198.51.100.2:2000", false)
				from, to := a, "b"
				if asker == "b" {
					from, to = b, "a"
				}
				from.handle(&pb.ClientMessage{Body: &pb.ClientMessage_Connect{Connect: &pb.Connect{RequestId: 7, Peer: to}}})
				if orders(a)+orders(b) > 0 || lastRefusal(from) != nil {
					t.Fatalf("answered before the address can have come: %v", from.all())
				}
				time.Sleep(100 * time.Millisecond)
				b.proves(addr6("[2001:db8:2::2]:2000"))
				if orders(a) != 1 || orders(b) != 1 {
					t.Errorf("%d and %d orders after the proof", orders(a), orders(b))
				}
			})
		})
	}
}

func TestAConnectIsRefusedWhenNoAddressComes(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		defer l.everybodyLeaves()
		a := l.enter("a", "")
		a.single("[2001:db8:1::1]:1000", true)
		a.handle(&pb.ClientMessage{Body: &pb.ClientMessage_Connect{Connect: &pb.Connect{RequestId: 7, Peer: "b", WaitNs: int64(time.Hour)}}})
		b := l.enter("b", "")
		time.Sleep(addressSettle + time.Millisecond)
		synctest.Wait()
		if r := lastRefusal(a); r.GetReason() != pb.Reason_NO_INBOUND {
			t.Errorf("%v, want no_inbound; %d orders", a.all(), orders(b))
		}
	})
}

func TestACollectiveWaitsForAddressesAndThenSettlesEveryPair(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		defer l.everybodyLeaves()
		a, b, c := l.enter("a", ""), l.enter("b", ""), l.enter("c", "")
		a.single("[2001:db8:1::1]:1000", true)
		b.single("198.51.100.2:2000", false)
		c.single("198.51.100.3:3000", true)
		for i, p := range []*peer{a, b, c} {
			p.handle(&pb.ClientMessage{Body: &pb.ClientMessage_Join{Join: &pb.Join{
				RequestId: uint64(i + 1), Collective: "all", Kind: pb.Join_MESH, SizeA: 3}}})
		}
		if orders(a) != 0 || orders(b) != 1 || orders(c) != 1 {
			t.Fatalf("orders: %d, %d, %d; want those of b and c", orders(a), orders(b), orders(c))
		}
		b.proves(addr6("[2001:db8:2::2]:2000"))
		if orders(a) != 1 || orders(b) != 2 {
			t.Errorf("orders: %d, %d; want those of a and b as well", orders(a), orders(b))
		}
		time.Sleep(addressSettle + time.Millisecond)
		synctest.Wait()
		var failed []string
		for _, m := range a.all() {
			if f := m.GetFailed(); f != nil {
				failed = append(failed, f.GetPeer().GetName()+" "+f.GetReason().String())
			}
		}
		if len(failed) != 1 || failed[0] != "c NO_INBOUND" {
			t.Errorf("a's failures: %v, want c's", failed)
		}
		l.g.mu.Lock()
		defer l.g.mu.Unlock()
		if n := len(l.g.sessions); n != 2 || l.g.sessionsPerGroup != 2 || l.g.budget.used.Load() != 2 {
			t.Errorf("%d sessions, %d counted, %d taken", n, l.g.sessionsPerGroup, l.g.budget.used.Load())
		}
	})
}

func TestHostCandidatesStayInOneNetworkOfEachFamily(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		defer l.everybodyLeaves()
		host := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:1"), addr6("[fd00::2]:1")}
		a, b := l.enter("a", ""), l.enter("b", "")
		for _, tc := range []struct {
			a, b, a6, b6 string
			want         bool
		}{
			{"198.51.100.1:1", "198.51.100.1:2", "", "", true},
			{"198.51.100.1:1", "198.51.100.2:2", "", "", false},
			{"198.51.100.1:1", "198.51.100.2:2", "[2001:db8:1::1]:1", "[2001:db8:1::2]:1", true},
			{"198.51.100.1:1", "198.51.100.2:2", "[2001:db8:1::1]:1", "[2001:db8:1:1::2]:1", false},
			{"[2001:db8:1::1]:1", "[2001:db8:1::7]:1", "", "", true},
		} {
			for p, at := range map[*peer][2]string{a: {tc.a, tc.a6}, b: {tc.b, tc.b6}} {
				p.single(at[0], false)
				p.second = netip.AddrPort{}
				if at[1] != "" {
					p.second = addr6(at[1])
				}
				p.hosts = host
			}
			if got := len(candidates(b.member, a.member)) > 2; got != tc.want {
				t.Errorf("%+v: candidates %v; want host candidates: %v", tc, kinds(candidates(b.member, a.member)), tc.want)
			}
		}
	})
}

// Strategies are for the NATs of the control connections; another family may need none.
func TestTheOtherFamilyIsTriedBeforeStrategiesForHardNATs(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		defer l.everybodyLeaves()
		a, b := l.enter("a", "").nat(mapsAPD, filtersAPD, false), l.enter("b", "").nat(mapsAPD, filtersAPD, false)
		if !hopeless(a.member, b.member) {
			t.Fatal("two symmetric NATs are not hopeless")
		}
		a.proves(addr6("[2001:db8:1::1]:1000"))
		b.proves(addr6("[2001:db8:2::2]:2000"))
		if hopeless(a.member, b.member) {
			t.Error("hopeless though both have IPv6")
		}
		b.nat(mapsEI, filtersAPD, false)
		a.connect(1, "b", 0)
		o := a.order()
		if o.Strategy != pb.Strategy_PLAIN || len(o.Candidates) != 2 {
			t.Errorf("the first attempt is %v with %v", o.Strategy, kinds(o.Candidates))
		}
		b.order()
		for _, p := range []*peer{a, b} {
			p.report(o, &pb.Report{Reason: pb.Reason_NO_INBOUND, InitsOut: 9})
		}
		o = a.order()
		if o.Strategy == pb.Strategy_PLAIN || len(o.Candidates) != 1 || len(o.Candidates[0].GetAddress().GetIp()) != 4 {
			t.Errorf("the second attempt is %v with %v", o.Strategy, kinds(o.Candidates))
		}
	})
}

// A listener whose NAT lets everybody in fires last; its IPv6 firewall does not, and must be open in time.
func TestAListenerWithIPv6FiresAtOnceWhateverItsNATLetsIn(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		defer l.everybodyLeaves()
		a, b := l.enter("a", "").nat(mapsEI, filtersAPD, false), l.enter("b", "").nat(mapsEI, filtersEI, false)
		a.proves(addr6("[2001:db8:1::1]:1000"))
		b.proves(addr6("[2001:db8:2::2]:2000"))
		a.connect(1, "b", 0)
		if x, y := a.order(), b.order(); x.FireTimeNs != 0 || y.FireTimeNs != 0 {
			t.Errorf("fire times %d and %d", x.FireTimeNs, y.FireTimeNs)
		}
	})
}
