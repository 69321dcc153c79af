package client

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

// manyRounds are the pauses before each round of INITs: the first may be lost, or meet ports that the other side has not
// guessed yet.
func manyRounds() []time.Duration {
	return []time.Duration{0, 100 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond}
}

// manySlack is how much later than ordered many sockets may fire: a busy machine takes its time to open them.
const manySlack = 2 * time.Second

// manyGap is the time between the INITs of two sockets, so that no queue on the way overflows.
const manyGap = 250 * time.Microsecond

// manySocket is one of the many: a mapping at a NAT that maps each destination anew.
type manySocket struct {
	pc net.PacketConn

	mu   sync.Mutex
	sent map[[12]byte]time.Time
}

// manyHit is a socket whose INIT was answered.
type manyHit struct {
	*manySocket
	rtt time.Duration
}

// runMany opens the sockets, fires them, and lets the first one that is answered be the attempt's; the others are closed
// at once.
func (a *attempt) runMany() {
	target := a.target
	many, err := a.openMany()
	if err != nil {
		e := a.failure()
		e.Reason, e.Err, e.Detail = protocol.ReasonLimited, err, "a NAT that gives every destination another port needs many sockets"
		a.fail(e)
		return
	}
	hits := make(chan manyHit, 1)
	var readers sync.WaitGroup
	for _, s := range many {
		readers.Go(func() { a.readMany(s, target, hits) })
	}
	hit, ok := a.fireMany(many, target, hits)
	for _, s := range many {
		if s != hit.manySocket {
			a.c.closeFurther(s.pc)
		}
	}
	if ok {
		_ = hit.pc.SetReadDeadline(time.Now()) // its reader makes room for the Transport's
	}
	readers.Wait()
	if !ok {
		return
	}
	_ = hit.pc.SetReadDeadline(time.Time{})
	out, err := a.c.newOutlet(hit.pc)
	if err != nil {
		e := a.failure()
		e.Err = err
		a.fail(e)
		return
	}
	if !a.win(out, target, hit.rtt) {
		out.close()
	}
}

// openMany opens as many sockets as the order says, or nearly.
func (a *attempt) openMany() ([]*manySocket, error) {
	var many []*manySocket
	for range a.sockets {
		pc, err := a.c.openFurther()
		if err != nil {
			if len(many) >= a.sockets/2 && len(many) > 0 {
				break // the chance is smaller, but there is one
			}
			for _, s := range many {
				a.c.closeFurther(s.pc)
			}
			return nil, err
		}
		many = append(many, &manySocket{pc: pc, sent: make(map[[12]byte]time.Time)})
	}
	return many, nil
}

// fireMany sends rounds of INITs until one is answered or the attempt needs no more.
func (a *attempt) fireMany(many []*manySocket, to netip.AddrPort, hits <-chan manyHit) (manyHit, bool) {
	if !a.awaitFire() {
		return manyHit{}, false
	}
	for _, wait := range manyRounds() {
		if hit, ok := a.awaitHit(hits, wait); ok {
			return hit, true
		}
		began := time.Now()
		for i, s := range many {
			if a.working.Err() != nil {
				return manyHit{}, false
			}
			a.sendMany(s, to)
			if late := time.Until(began.Add(time.Duration(i) * manyGap)); late > time.Millisecond {
				if hit, ok := a.awaitHit(hits, late); ok {
					return hit, true
				}
			}
		}
	}
	select {
	case hit := <-hits:
		return hit, true
	case <-a.working.Done():
		return manyHit{}, false
	}
}

// handleFire lets the many sockets of an attempt fire now.
func (c *Client) handleFire(m *pb.Fire) {
	id, err := protocol.SessionIDFromBytes(m.GetSessionId())
	if err != nil {
		return
	}
	if a := c.sessions.attempt(id); a != nil && a.n == m.GetAttempt() && a.sockets > 0 {
		a.fireOnce.Do(func() { close(a.fireNow) })
	}
}

// awaitFire waits until the sockets are to fire. It reports false when the attempt needs them no more.
func (a *attempt) awaitFire() bool {
	t := time.NewTimer(time.Until(a.fire))
	defer t.Stop()
	select {
	case <-t.C:
	case <-a.fireNow:
	case <-a.working.Done():
		return false
	}
	a.mu.Lock()
	a.p.begin(time.Now(), a.giveUp, a.quiet)
	a.mu.Unlock()
	a.poke()
	return a.working.Err() == nil
}

// awaitHit waits so long for a hit.
func (a *attempt) awaitHit(hits <-chan manyHit, d time.Duration) (manyHit, bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case hit := <-hits:
		return hit, true
	case <-t.C:
	case <-a.working.Done():
	}
	return manyHit{}, false
}

// sendMany sends one INIT from one of the sockets.
func (a *attempt) sendMany(s *manySocket, to netip.AddrPort) {
	tid := newTransaction()
	b, err := protocol.AppendInit(nil, tid, a.s.id, a.c.cfg.Name, a.key)
	if err != nil {
		return // the name was checked at sign-in
	}
	now := time.Now()
	s.mu.Lock()
	s.sent[tid] = now
	s.mu.Unlock()
	_, _ = s.pc.WriteTo(b, udpAddr(to))
	a.noteSent(now, 1)
}

// readMany looks for the answer to an INIT of its socket. A guess that comes in is answered, by an INIT too: the other
// side's NAT is open for this socket now.
func (a *attempt) readMany(s *manySocket, peer netip.AddrPort, hits chan<- manyHit) {
	buf := make([]byte, protocol.MaxSTUN+1)
	answered := 0
	for {
		n, addr, err := s.pc.ReadFrom(buf)
		if err != nil {
			if ne, ok := errors.AsType[net.Error](err); errors.Is(err, net.ErrClosed) || ok && ne.Timeout() || addr == nil && !temporary(err) {
				return
			}
			continue // an ICMP error of an earlier packet
		}
		from := addrPort(addr)
		if from != peer {
			continue
		}
		if r, err := protocol.ParseBindingResponse(buf[:n]); err == nil {
			s.mu.Lock()
			at, ours := s.sent[r.TransactionID]
			s.mu.Unlock()
			if ours && r.Verify(a.key) == nil {
				select {
				case hits <- manyHit{s, time.Since(at)}:
				default:
				}
			}
			continue
		}
		r, err := protocol.ParseBindingRequest(buf[:n])
		if err != nil || r.Session != a.s.id || r.From != a.s.peer.Name || r.Verify(a.key) != nil || answered >= maxReflexiveInits {
			continue
		}
		answered++
		if b, err := protocol.AppendBindingResponse(nil, r.TransactionID, from, &a.key); err == nil {
			_, _ = s.pc.WriteTo(b, addr)
		}
		a.sendMany(s, peer)
	}
}

// win makes the outlet the attempt's. It reports false if the attempt is over.
func (a *attempt) win(out *outlet, peer netip.AddrPort, rtt time.Duration) bool {
	now := time.Now()
	a.mu.Lock()
	if a.over || a.ctx.Err() != nil {
		a.mu.Unlock()
		return false
	}
	a.out = out
	a.p.openedBy(now, peer, rtt)
	a.mu.Unlock()
	a.c.emit(Event{Kind: EventInitAnswered, Session: a.s.id, Peer: a.s.peer.Name, Attempt: a.n, Addr: peer, Delay: rtt})
	a.step(now)
	a.poke()
	return true
}
