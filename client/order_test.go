package client

import (
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
	})
}
