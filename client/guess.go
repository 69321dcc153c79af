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

// sendGuesses sends the INITs to guessed ports from the client's own socket, paced. One attempt at a time does that, which
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
	began, sent := time.Now(), 0
	for sent < len(ports) {
		now := time.Now()
		due := int(now.Sub(began)*time.Duration(a.guess.rate)/time.Second) + 1
		n := min(due-sent, guessBurst, len(ports)-sent)
		for _, port := range ports[sent : sent+n] {
			b, err := protocol.AppendInit(nil, newTransaction(), a.s.id, a.c.cfg.Name, a.key)
			if err != nil {
				return // the name was checked at sign-in
			}
			a.c.write(b, netip.AddrPortFrom(a.guess.at, port))
		}
		sent += n
		if due-sent > guessBurst { // late: the rest must not come as one burst
			began = now.Add(-time.Duration(sent) * time.Second / time.Duration(a.guess.rate))
		}
		a.noteSent(now, n)
		if !a.pause(guessTick) {
			return
		}
	}
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
