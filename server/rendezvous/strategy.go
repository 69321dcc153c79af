package rendezvous

import (
	"time"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

// strategy is what the two sides do in an attempt.
type strategy int

const (
	// plain: both send from their one socket.
	plain strategy = iota
	// fresh: both send from sockets that no NAT has seen. A NAT that keeps a trace of an early packet has given the old
	// socket's mapping away, and no retry from it can cure that.
	fresh
	// guessed: the side whose NAT maps each destination anew opens many sockets, the other one tries random ports. By the
	// birthday bound 256 and 2,048 of 64,512 miss one another once in 3,800 times.
	guessed
	// predicted: the same with few, as that NAT has given out its ports in sequence.
	predicted
)

// String is the label of the metric.
func (k strategy) String() string { return strategies()[k] }

// strategies lists the labels.
func strategies() []string {
	return []string{"plain", "fresh_socket", "guessed_ports", "predicted_ports"}
}

const (
	// predictedSockets and predictedPorts are small enough to be quick, and allow for mappings that others behind the same
	// NAT get in the meantime.
	predictedSockets, predictedPorts = 8, 128
	// predictedStep is how far apart two mappings of one socket may be and still count as a sequence.
	predictedStep = 8
)

// plan is how an attempt is to go.
type plan struct {
	strategy strategy
	hard     int // guessed and predicted: the side whose NAT maps each destination anew
	sockets  int
	guess    *pb.Guess
	anew     bool // the other side guesses from a fresh socket
}

// guesses tells whether the two sides differ in what they do.
func (p plan) guesses() bool { return p.strategy == guessed || p.strategy == predicted }

// prepares tells whether a side needs a socket whose address is known beforehand.
func (p plan) prepares(side int) bool {
	switch {
	case p.strategy == fresh:
		return true
	case side == p.hard:
		return p.strategy == predicted
	}
	return p.anew
}

// lead is how long the guesses take.
func (p plan) lead() time.Duration {
	if !p.guesses() {
		return 0
	}
	return time.Duration(p.guess.GetPorts()) * time.Second / time.Duration(p.guess.GetPerSecond())
}

// varies tells whether a peer is seen at another port by others than by the server.
func varies(m *member) bool {
	return m.mapping == pb.MappingBehavior_MAPPING_ADDRESS_AND_PORT_DEPENDENT || m.mapping == pb.MappingBehavior_MAPPING_ADDRESS_DEPENDENT
}

// portFiltered tells whether a peer is known to let in only the very ports that it has sent to.
func portFiltered(m *member) bool {
	return m.filtering == pb.FilteringBehavior_FILTERING_ADDRESS_AND_PORT_DEPENDENT
}

func sameSite(a, b *member) bool { return a.observed.Addr() == b.observed.Addr() }

// pointless tells whether two peers that have failed to reach one another cannot: neither can know the other's address,
// as both NATs map each destination anew, and neither lets in strangers.
func pointless(a, b *member) bool {
	return varies(a) && varies(b) && !open(a) && !open(b) && !sameSite(a, b) && !otherwise(a, b)
}

// hopeless tells the same beforehand: both filters must be known for that.
func hopeless(a, b *member) bool {
	known := a.filtering != pb.FilteringBehavior_FILTERING_UNKNOWN && b.filtering != pb.FilteringBehavior_FILTERING_UNKNOWN
	return known && pointless(a, b)
}

// choose finds the strategy of the attempt that is about to begin, from what is known of the NATs by now and how the
// last one ended.
func (s *session) choose(now time.Time) plan {
	a, b := s.sides[0].m, s.sides[1].m
	switch {
	case sameSite(a, b):
	case is4(a.observed) != is4(b.observed), s.attempt == 1 && otherwise(a, b):
	case varies(a) != varies(b):
		hard := 0
		if varies(b) {
			hard = 1
		}
		if !portFiltered(s.sides[1-hard].m) && !s.silent {
			break // it lets in what comes from the other's address, whatever the port
		}
		anew := s.guesses > 0 || now.Before(s.sides[1-hard].m.spoilt)
		s.guesses++
		if s.sides[hard].m.inSequence && !s.predicted {
			s.predicted = true
			return plan{strategy: predicted, hard: hard, sockets: predictedSockets, anew: anew}
		}
		return randomPorts(hard, anew)
	case s.silent, now.Before(a.spoilt), now.Before(b.spoilt):
		return plan{strategy: fresh}
	}
	return plan{strategy: plain}
}

// spoiltFor is how long a peer's one socket is not trusted after a session that needed a fresh one. Linux gives a socket's
// next flows the port of its latest, so an early packet from one peer spoils the mapping for all that come later, until the
// flows are forgotten.
const spoiltFor = time.Minute

// noteSpoilt remembers whose one socket was of no use.
func (s *session) noteSpoilt(now time.Time) {
	for i := range s.sides {
		if s.sides[i].fresh.IsValid() && (s.plan.strategy == fresh || s.plan.guesses() && i != s.plan.hard) {
			s.sides[i].m.spoilt = now.Add(spoiltFor)
		}
	}
}

func randomPorts(hard int, anew bool) plan {
	return plan{strategy: guessed, hard: hard, anew: anew, sockets: protocol.MaxSockets, guess: &pb.Guess{
		Ports: protocol.MaxGuesses, PerSecond: protocol.MaxGuessesPerSecond, Lowest: protocol.LowestGuess, Highest: 65535}}
}

// predict turns the two mappings of a prepared socket into the ports that come next. It reports false if they are no
// sequence.
func predict(main, alternate uint16) (*pb.Guess, bool) {
	step := int32(alternate) - int32(main)
	first := int32(alternate) + step
	if step == 0 || step < -predictedStep || step > predictedStep || first < protocol.LowestGuess || first > 65535 {
		return nil, false
	}
	room := (65535 - first) / step
	if step < 0 {
		room = (first - protocol.LowestGuess) / -step
	}
	ports := min(predictedPorts, room+1)
	return &pb.Guess{Ports: uint32(ports), PerSecond: protocol.MaxGuessesPerSecond, First: uint32(first), Step: step}, true
}

// describe puts one side's part into its order.
func (p plan) describe(o *pb.Session, side int, prepared bool) {
	switch {
	case p.guesses() && side == p.hard:
		o.Strategy, o.Sockets = pb.Strategy_MANY_SOCKETS, uint32(p.sockets)
	case p.strategy == guessed:
		o.Strategy, o.Guess, o.FromPrepared = pb.Strategy_GUESSED_PORTS, p.guess, prepared
	case p.strategy == predicted:
		o.Strategy, o.Guess, o.FromPrepared = pb.Strategy_PREDICTED_PORTS, p.guess, prepared
	case p.strategy == fresh && prepared:
		o.Strategy = pb.Strategy_FRESH_SOCKET
	}
}
