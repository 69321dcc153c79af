package rendezvous

import (
	"net/netip"
	"time"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
	"github.com/bradawl/bradawl/protocol/pb"
)

// link is the way to a signed-in peer. No method blocks.
type link interface {
	// enqueue puts a message into the peer's outbox.
	enqueue(*pb.ServerMessage)
	// roundTrip is the current estimate; 0 if there is none.
	roundTrip() time.Duration
	// deviation is how much round trips differ from that, on average.
	deviation() time.Duration
	// ended tells whether the connection is over already; its member may not have left yet.
	ended() bool
	// shut closes the control connection with a code and a word for people.
	shut(code closeCode, detail string)
}

// member is one signed-in incarnation of a peer. Except for link, its
// fields belong to the lock of its group once it has entered.
type member struct {
	id          uint64
	name, role  string
	fingerprint identity.Fingerprint
	tokenID     string           // for the log
	observed    netip.AddrPort   // on the control connection
	second      netip.AddrPort   // in the other family; invalid: none is proven
	secondEnd   deadline         // of second, unless it is proven again
	oneFamily   bool             // says that it has no other one
	entered     time.Time        // when it signed in
	claimed     []*pb.Address    // host candidates
	hosts       []netip.AddrPort // those of them that are vetted
	mapping     pb.MappingBehavior
	filtering   pb.FilteringBehavior
	inSequence  bool      // it says that its NAT gives out ports in sequence
	guessing    *session  // has it to itself for guessing ports
	spoilt      time.Time // until then its one socket's mapping is not trusted
	link        link

	gone        bool
	requests    map[uint64]request
	sessions    map[protocol.SessionID]*session
	collectives map[string]*collective
	unsent      []*pb.Session // collected until the group's current step ends
}

// request is what an id of a peer's stands for: a waiting Connect, a session asked for, a membership or a watch.
type request interface {
	// drop withdraws the request; its member asked for that or is leaving.
	drop(g *group, now time.Time)
}

// ref names an incarnation: a name and the key behind it.
type ref struct {
	name        string
	fingerprint identity.Fingerprint
}

func (m *member) ref() ref { return ref{m.name, m.fingerprint} }

func (m *member) refPB() *pb.PeerRef {
	return &pb.PeerRef{Name: m.name, Fingerprint: m.fingerprint[:]}
}

func (m *member) info() *pb.PeerInfo {
	return &pb.PeerInfo{Name: m.name, Role: m.role, Fingerprint: m.fingerprint[:], Mapping: m.mapping}
}

func (m *member) refuse(requestID uint64, reason protocol.Reason, detail string) {
	m.link.enqueue(refused(requestID, reason, detail, 0))
}

func refused(requestID uint64, reason protocol.Reason, detail string, retryAfter time.Duration) *pb.ServerMessage {
	return &pb.ServerMessage{Body: &pb.ServerMessage_Refused{Refused: &pb.Refused{
		RequestId: requestID, Reason: reason.PB(), Detail: detail, RetryAfterNs: int64(retryAfter),
	}}}
}
