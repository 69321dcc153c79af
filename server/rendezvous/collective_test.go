package rendezvous

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

func mesh(id uint64, size uint32, connected ...*peer) *pb.Join {
	j := &pb.Join{RequestId: id, Collective: "c", Kind: pb.Join_MESH, SizeA: size}
	for _, p := range connected {
		j.Connected = append(j.Connected, p.refPB())
	}
	return j
}

func shuffle(id uint64, maps, reduces uint32) *pb.Join {
	return &pb.Join{RequestId: id, Collective: "shuffle", Kind: pb.Join_BIPARTITE, RoleA: "map", RoleB: "reduce", SizeA: maps, SizeB: reduces}
}

// others lists with whom an order's sessions are.
func others(sessions []*pb.Session) []string {
	var names []string
	for _, s := range sessions {
		names = append(names, s.Peer.Name)
	}
	slices.Sort(names)
	return names
}

func TestMeshIsOrderedOncePerPeerWhenComplete(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		var peers []*peer
		for i := range 5 {
			p := l.enter(fmt.Sprintf("p%d", i), "")
			for _, q := range peers {
				q.nothing()
			}
			p.join(mesh(uint64(100+i), 5))
			peers = append(peers, p)
		}
		pairs, dialled := map[string]int{}, map[string]int{}
		for i, p := range peers {
			sessions := p.sessions()
			p.nothing()
			if len(sessions) != 4 {
				t.Errorf("%s has %d sessions", p.name, len(sessions))
			}
			for _, s := range sessions {
				pairs[string(s.Id)]++
				if s.Collective != "c" || s.RequestId != uint64(100+i) {
					t.Errorf("session %v", s)
				}
				if s.Role == pb.Session_DIALLER {
					dialled[string(s.Id)]++
				}
			}
		}
		if len(pairs) != 10 || len(dialled) != 10 {
			t.Errorf("%d pairs, one side of %d dials, want 10", len(pairs), len(dialled))
		}
		for _, p := range peers {
			p.leave()
		}
	})
}

func TestBipartiteOrdersOnlyAcross(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		m0, m1, r0 := l.enter("m0", "map"), l.enter("m1", "map"), l.enter("r0", "reduce")
		m0.join(shuffle(1, 2, 1))
		r0.join(shuffle(1, 2, 1))
		m0.nothing()
		m1.join(shuffle(1, 2, 1))
		if got := others(r0.sessions()); !slices.Equal(got, []string{"m0", "m1"}) {
			t.Errorf("r0 is ordered to %v", got)
		}
		for _, m := range []*peer{m0, m1} {
			if o := m.order(); o.Peer.Name != "r0" {
				t.Errorf("%s is ordered to %s", m.name, o.Peer.Name)
			}
		}
		r1 := l.enter("r1", "reduce") // later than the collective's size
		r1.join(shuffle(1, 2, 1))
		if got := others(r1.sessions()); !slices.Equal(got, []string{"m0", "m1"}) {
			t.Errorf("r1 is ordered to %v", got)
		}
		for _, p := range []*peer{m0, m1, r0, r1} {
			p.leave()
		}
	})
}

func TestMemberThatComesBackNeedNotWaitForThoseWhoHaveLeft(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		m0, m1, r0 := l.enter("map-0-0", "map"), l.enter("map-1-0", "map"), l.enter("reduce-0-0", "reduce")
		for i, p := range []*peer{m0, m1, r0} {
			p.join(shuffle(uint64(i+1), 2, 1))
		}
		for _, p := range []*peer{m0, m1, r0} {
			p.sessions()
			p.leave() // done, or dead: nobody is left, and the collective is forgotten
		}
		again, reducer := l.enter("map-0-1", "map"), l.enter("reduce-0-1", "reduce")
		again.join(shuffle(1, 1, 1))
		again.nothing()
		reducer.join(shuffle(1, 1, 1))
		if got := others(again.sessions()); !slices.Equal(got, []string{"reduce-0-1"}) {
			t.Errorf("map-0-1 is ordered to connect to %v", got)
		}
		again.leave()
		reducer.leave()
	})
}

func TestCollectiveOpensWhenOneMemberNeedsNoMore(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		patient, hasty := l.enter("patient", ""), l.enter("hasty", "")
		patient.join(mesh(1, 5))
		patient.nothing()
		hasty.join(mesh(1, 2))
		if got := others(hasty.sessions()); !slices.Equal(got, []string{"patient"}) {
			t.Errorf("hasty is ordered to connect to %v", got)
		}
		hasty.leave()
		patient.leave()
	})
}

func TestJoinsThatDoNotFitAreRefused(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", "map"), l.enter("b", "other")
		a.join(shuffle(1, 2, 2))
		id := uint64(1)
		for _, tc := range []struct {
			who  *peer
			j    *pb.Join
			want pb.Reason
		}{
			{b, shuffle(0, 2, 2), pb.Reason_UNAUTHORIZED},
			{b, &pb.Join{Collective: "d", Kind: pb.Join_BIPARTITE, RoleA: "other", RoleB: "other"}, pb.Reason_UNAUTHORIZED},
			{b, &pb.Join{Collective: "shuffle", Kind: pb.Join_MESH, SizeA: 2}, pb.Reason_LIMITED},
			{b, &pb.Join{Collective: "", Kind: pb.Join_MESH, SizeA: 2}, pb.Reason_LIMITED},
			{b, &pb.Join{Collective: "d"}, pb.Reason_LIMITED},
			{b, &pb.Join{Collective: "d", Kind: pb.Join_MESH, SizeA: 1 << 31}, pb.Reason_LIMITED},
			{b, &pb.Join{Collective: "d", Kind: pb.Join_MESH, SizeA: ^uint32(0)}, pb.Reason_LIMITED},
			{a, shuffle(0, 2, 2), pb.Reason_LIMITED},
		} {
			id++
			tc.j.RequestId = id
			tc.who.join(tc.j)
			tc.who.refusedFor(id, tc.want)
		}
		a.leave()
	})
}

func TestNewIncarnationIsConnectedAnew(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", ""), l.enter("b", "")
		a.join(mesh(1, 2))
		b.join(mesh(1, 2))
		o := a.order()
		b.order()
		a.proven(o)
		b.proven(o)
		b.leave()
		again := l.enter("b", "")
		again.join(mesh(1, 2))
		o = again.order()
		if o.Peer.Name != "a" || a.order().Peer.Name != "b" {
			t.Error("wrong pair")
		}
		a.proven(o)
		again.proven(o)
		a.leave()
		again.leave()
	})
}

func TestControlConnectionThatComesBackIsNotConnectedTwice(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b := l.enter("a", ""), l.enter("b", "")
		a.join(mesh(1, 2))
		b.join(mesh(1, 2))
		o := a.order()
		b.order()
		a.proven(o)
		b.proven(o)
		b.leave()
		back, err := l.enterAs("b", "", b.fingerprint)
		if err != nil {
			t.Fatal(err)
		}
		back.join(mesh(1, 2)) // even if it does not say that it is connected
		back.nothing()
		a.nothing()
		a.leave()
		back.leave()
	})
}

func TestAfterARestartOnlyMissingPairsAreConnected(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		// The server is new; a, b and c had links a-b before, and d has gone for good.
		a, b, c := l.enter("a", ""), l.enter("b", ""), l.enter("c", "")
		b.join(mesh(1, 4, a))
		a.join(mesh(1, 4)) // has not noticed the link to b when the server went
		c.join(mesh(1, 4))
		if got := others(c.sessions()); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("c is ordered to %v", got)
		}
		if got := others(a.sessions()); !slices.Equal(got, []string{"c"}) {
			t.Errorf("a is ordered to %v", got)
		}
		for _, p := range []*peer{a, b, c} {
			p.leave()
		}
	})
}

func TestLeaveEndsSessionsAndAllowsToJoinAnew(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b, c := l.enter("a", ""), l.enter("b", ""), l.enter("c", "")
		for _, p := range []*peer{a, b, c} {
			p.join(mesh(1, 3))
		}
		for _, s := range a.sessions() {
			if s.Peer.Name == "b" {
				a.proven(s)
				b.proven(s)
			}
		}
		a.handle(&pb.ClientMessage{Body: &pb.ClientMessage_Leave{Leave: &pb.Leave{RequestId: 1}}})
		b.sessions()
		b.nothing() // its link to a is there already
		c.sessions()
		c.failedWith(pb.Reason_CANCELED, 1)
		a.nothing()
		a.join(mesh(2, 3))
		if got := others(a.sessions()); !slices.Equal(got, []string{"b", "c"}) {
			t.Errorf("a is ordered to %v", got)
		}
		for _, p := range []*peer{a, b, c} {
			p.leave()
		}
	})
}

func TestVanishedMemberFailsItsUnfinishedLinksOnly(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		a, b, c := l.enter("a", ""), l.enter("b", ""), l.enter("c", "")
		for _, p := range []*peer{a, b, c} {
			p.join(mesh(7, 3))
		}
		for _, s := range a.sessions() {
			if s.Peer.Name == "b" {
				a.proven(s)
				b.proven(s)
			}
		}
		b.sessions()
		c.sessions()
		a.leave()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		b.nothing() // its session with c goes on
		c.failedWith(pb.Reason_NO_PEER, 7)
		b.leave()
		c.leave()
	})
}

func TestHopelessPairsOfACollectiveFailAtOnce(t *testing.T) {
	t.Parallel()
	inLab(t, func(t *testing.T, l *groupLab) {
		const apd = pb.MappingBehavior_MAPPING_ADDRESS_AND_PORT_DEPENDENT
		a, b, c := l.enter("a", "").nat(apd, filtersAPD, false), l.enter("b", "").nat(apd, filtersAPD, false), l.enter("c", "")
		for _, p := range []*peer{a, b, c} {
			p.join(mesh(7, 3))
		}
		a.failedWith(pb.Reason_MAPPING_VARIES, 7)
		b.failedWith(pb.Reason_MAPPING_VARIES, 7)
		if got := others(c.sessions()); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("c is ordered to %v", got)
		}
		for _, p := range []*peer{a, b, c} {
			p.leave()
		}
	})
}

func TestLargeBurstIsChunkedAndPaced(t *testing.T) {
	inLab(t, func(t *testing.T, l *groupLab) {
		const n = 400
		var peers []*peer
		for i := range n {
			p := l.enter(fmt.Sprintf("peer-%d", i), "")
			peers = append(peers, p)
			p.join(mesh(1, n))
		}
		seen := map[string][2]int64{}
		for _, p := range peers {
			fires := map[int64]bool{}
			total := 0
			for m := p.next(); m != nil; m = p.next() {
				frame := protocolFrame(t, m)
				if frame >= protocol.MaxServerMessage {
					t.Fatalf("a message of %d bytes", frame)
				}
				for _, s := range m.GetOrder().GetSessions() {
					total++
					if s.FireTimeNs == 0 || fires[s.FireTimeNs] {
						t.Fatalf("%s fires twice at %d", p.name, s.FireTimeNs)
					}
					fires[s.FireTimeNs] = true
					v := seen[string(s.Id)]
					if v[0] != 0 && v[1] != s.FireTimeNs {
						t.Fatal("the two of a pair fire at different instants")
					}
					seen[string(s.Id)] = [2]int64{v[0] + 1, s.FireTimeNs}
				}
			}
			if total != n-1 {
				t.Fatalf("%s has %d sessions", p.name, total)
			}
		}
		if len(seen) != n*(n-1)/2 {
			t.Errorf("%d pairs", len(seen))
		}
		for _, p := range peers {
			p.leave()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
	})
}
