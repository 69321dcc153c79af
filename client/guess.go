package client

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

const (
	// guessTick is how often guesses are sent, guessBurst how many at once at most, however late the timer was.
	guessTick  = 5 * time.Millisecond
	guessBurst = 64
)

// guesses are the ports of the peer's observed address that an order has us try: each INIT opens our NAT for one of them.
type guesses struct {
	at    netip.Addr
	rate  int // per second
	order *pb.Guess
	row   bool // ports in sequence
}

var errNoGuessAddress = errors.New("order to guess ports without an address that the server observed")

// parseGuess checks what an order says of guesses. Whatever it asks for, they stay within the bounds of the protocol, and
// go to no address but the one that the server observed.
func parseGuess(m *pb.Session, candidates []candidate) (*guesses, error) {
	for _, c := range candidates {
		if c.kind == pb.Candidate_SERVER_REFLEXIVE {
			rate := min(m.GetGuess().GetPerSecond(), protocol.MaxGuessesPerSecond)
			return &guesses{at: c.addr.Addr(), rate: int(max(rate, 1)), order: m.GetGuess(), row: m.GetStrategy() == pb.Strategy_PREDICTED_PORTS}, nil
		}
	}
	return nil, errNoGuessAddress
}

// ports draws the ports, none of them twice.
func (g *guesses) ports() []uint16 {
	n := int(min(g.order.GetPorts(), protocol.MaxGuesses))
	if g.row {
		var out []uint16
		port, step := int64(g.order.GetFirst()), int64(g.order.GetStep())
		for ; len(out) < n && port >= protocol.LowestGuess && port <= 65535 && step != 0; port += step {
			out = append(out, uint16(port))
		}
		return out
	}
	low, high := int(max(g.order.GetLowest(), protocol.LowestGuess)), 65535
	if h := g.order.GetHighest(); h != 0 {
		high = int(min(h, 65535))
	}
	if low > high {
		return nil
	}
	all := make([]uint16, high-low+1)
	for i := range all {
		all[i] = uint16(low + i)
	}
	n = min(n, len(all))
	for i := range n { // Fisher and Yates, as far as needed
		j := i + rand.IntN(len(all)-i)
		all[i], all[j] = all[j], all[i]
	}
	return all[:n]
}

// pacer spreads packets evenly. After a pause that was too long it does not make up for more than guessBurst.
type pacer struct {
	rate  int // per second
	began time.Time
	sent  int
}

// due returns how many packets are to be sent now.
func (p *pacer) due(now time.Time) int {
	n := int(now.Sub(p.began)*time.Duration(p.rate)/time.Second) + 1 - p.sent
	if n > guessBurst {
		p.began = p.began.Add(time.Duration(n-guessBurst) * time.Second / time.Duration(p.rate))
		n = guessBurst
	}
	n = max(n, 0)
	p.sent += n
	return n
}

// sendGuesses sends the INITs to guessed ports from the attempt's socket, paced. One attempt at a time does that, which
// keeps the client as a whole within the rate.
func (a *attempt) sendGuesses() {
	select {
	case a.c.guessing <- struct{}{}:
		defer func() { <-a.c.guessing }()
	case <-a.working.Done():
		return
	}
	if !a.pause(time.Until(a.fire)) {
		return
	}
	ports := a.guess.ports()
	pace := pacer{rate: a.guess.rate, began: time.Now()}
	for len(ports) > 0 {
		now := time.Now()
		n := min(pace.due(now), len(ports))
		for _, port := range ports[:n] {
			b, err := protocol.AppendInit(nil, newTransaction(), a.s.id, a.c.cfg.Name, a.key)
			if err != nil {
				return // the name was checked at sign-in
			}
			a.write(b, netip.AddrPortFrom(a.guess.at, port))
		}
		ports = ports[n:]
		a.noteSent(now, n)
		if len(ports) > 0 && !a.pause(guessTick) {
			return
		}
	}
	a.c.send(&pb.ClientMessage{Body: &pb.ClientMessage_Guessed{Guessed: &pb.Guessed{SessionId: a.s.id[:], Attempt: a.n}}})
}

// noteSent counts INITs that did not go through the punch.
func (a *attempt) noteSent(now time.Time, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.p.alsoSent(now, n)
}

// pause waits so long; it reports false when the attempt needs no more INITs.
func (a *attempt) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return a.working.Err() == nil
	case <-a.working.Done():
		return false
	}
}
