package client

import (
	"net/netip"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

func goodOrder() *pb.Session {
	return &pb.Session{
		Id: make([]byte, 16), Attempt: 1, Key: make([]byte, 32), Role: pb.Session_DIALLER, GiveUpNs: 1e9,
		Peer: &pb.PeerInfo{Name: "b", Fingerprint: make([]byte, 32)},
		Candidates: []*pb.Candidate{{Type: pb.Candidate_SERVER_REFLEXIVE,
			Address: &pb.Address{Ip: []byte{192, 0, 2, 1}, Port: 4000}}},
	}
}

func TestOrdersThatMakeNoSenseAreRefused(t *testing.T) {
	if _, err := parseOrder(goodOrder()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*pb.Session){
		"short id":           func(s *pb.Session) { s.Id = s.Id[1:] },
		"no attempt":         func(s *pb.Session) { s.Attempt = 0 },
		"short key":          func(s *pb.Session) { s.Key = nil },
		"no peer":            func(s *pb.Session) { s.Peer = nil },
		"half a fingerprint": func(s *pb.Session) { s.Peer.Fingerprint = s.Peer.Fingerprint[:16] },
		"no role":            func(s *pb.Session) { s.Role = 0 },
		"a role that is not": func(s *pb.Session) { s.Role = 9 },
		"a negative role":    func(s *pb.Session) { s.Role = -1 },
	} {
		s := goodOrder()
		spoil(s)
		if _, err := parseOrder(s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestOrdersCannotMakeAPeerExceedItsBounds(t *testing.T) {
	s := goodOrder()
	s.Strategy, s.Sockets = pb.Strategy_MANY_SOCKETS, 1<<31
	if o, err := parseOrder(s); err != nil || o.sockets != protocol.MaxSockets {
		t.Errorf("%d sockets, %v", o.sockets, err)
	}
	s.Candidates = nil
	if _, err := parseOrder(s); err == nil {
		t.Error("many sockets towards nobody")
	}
	for name, tc := range map[string]struct {
		strategy pb.Strategy
		guess    *pb.Guess
		want     int // ports at most
	}{
		"random":               {pb.Strategy_GUESSED_PORTS, &pb.Guess{Ports: 1 << 31, PerSecond: 1 << 31}, protocol.MaxGuesses},
		"a narrow range":       {pb.Strategy_GUESSED_PORTS, &pb.Guess{Ports: 99, Lowest: 5000, Highest: 5009}, 10},
		"services":             {pb.Strategy_GUESSED_PORTS, &pb.Guess{Ports: 2000, Lowest: 1, Highest: 1033}, 10},
		"an inverted range":    {pb.Strategy_GUESSED_PORTS, &pb.Guess{Ports: 9, Lowest: 6000, Highest: 5000}, 0},
		"above all":            {pb.Strategy_GUESSED_PORTS, &pb.Guess{Ports: 99, Lowest: 1 << 31}, 0},
		"nothing":              {pb.Strategy_GUESSED_PORTS, nil, 0},
		"predicted":            {pb.Strategy_PREDICTED_PORTS, &pb.Guess{Ports: 1 << 31, First: 2000, Step: 1}, protocol.MaxGuesses},
		"predicted, too high":  {pb.Strategy_PREDICTED_PORTS, &pb.Guess{Ports: 100, First: 65530, Step: 2}, 3},
		"predicted, services":  {pb.Strategy_PREDICTED_PORTS, &pb.Guess{Ports: 100, First: 1030, Step: -3}, 3},
		"predicted, no step":   {pb.Strategy_PREDICTED_PORTS, &pb.Guess{Ports: 100, First: 2000}, 0},
		"predicted, huge step": {pb.Strategy_PREDICTED_PORTS, &pb.Guess{Ports: 100, First: 2000, Step: -1 << 31}, 1},
	} {
		s := goodOrder()
		s.Strategy, s.Guess = tc.strategy, tc.guess
		o, err := parseOrder(s)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ports := o.guess.ports()
		if len(ports) != tc.want || o.guess.rate < 1 || o.guess.rate > protocol.MaxGuessesPerSecond || o.guess.at != netip.AddrFrom4([4]byte{192, 0, 2, 1}) {
			t.Errorf("%s: %d ports of %s at %d per second, want %d", name, len(ports), o.guess.at, o.guess.rate, tc.want)
		}
		seen := make(map[uint16]bool)
		for _, p := range ports {
			if p < protocol.LowestGuess || seen[p] {
				t.Errorf("%s: port %d is too low or drawn twice", name, p)
			}
			seen[p] = true
		}
	}
	// A host candidate is what the peer claims, not what the server observed.
	s = goodOrder()
	s.Strategy, s.Guess = pb.Strategy_GUESSED_PORTS, &pb.Guess{Ports: 9, PerSecond: 9}
	s.Candidates[0].Type = pb.Candidate_HOST
	if _, err := parseOrder(s); err == nil {
		t.Error("ports of an address that nobody observed are guessed")
	}
}

func TestOrdersCannotAimINITsAtImpossibleAddresses(t *testing.T) {
	s := goodOrder()
	for _, ip := range [][]byte{{224, 0, 0, 1}, {0, 0, 0, 0}, {1, 2, 3}, nil} {
		s.Candidates = append(s.Candidates, &pb.Candidate{Address: &pb.Address{Ip: ip, Port: 1}})
	}
	s.Candidates = append(s.Candidates, &pb.Candidate{Address: &pb.Address{Ip: []byte{192, 0, 2, 9}, Port: 0}}, nil)
	o, err := parseOrder(s)
	if err != nil || len(o.candidates) != 1 {
		t.Errorf("candidates %v, %v; want the one usable", o.candidates, err)
	}
}

// FuzzOrder feeds whatever a server could send to the decoder of orders.
func FuzzOrder(f *testing.F) {
	b, err := proto.Marshal(goodOrder())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		var s pb.Session
		if proto.Unmarshal(b, &s) != nil {
			return
		}
		o, err := parseOrder(&s)
		if err != nil {
			return
		}
		if len(o.candidates) > protocol.MaxCandidates || o.giveUp < minGiveUp || o.giveUp > maxGiveUp || o.attempt == 0 {
			t.Errorf("accepted %+v", o)
		}
		if o.sockets > protocol.MaxSockets || o.quiet > o.giveUp || o.guess != nil && len(o.guess.ports()) > protocol.MaxGuesses {
			t.Errorf("accepted %+v", o)
		}
	})
}
