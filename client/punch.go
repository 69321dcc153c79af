package client

import (
	"crypto/rand"
	"net/netip"
	"time"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

// The pacing of INITs to one address, counted from the attempt's fire time:
// quick at first, because an early INIT may die at a NAT that opens a moment
// later, then doubling.
const (
	initFirstGap = 5 * time.Millisecond
	initMaxGap   = 160 * time.Millisecond
	initBusyGap  = 500 * time.Millisecond
	// maxReflexiveInits bounds the INITs to a peer-reflexive address that has
	// not answered: whoever replays a captured INIT from a forged address turns
	// no more than this on its owner.
	maxReflexiveInits = 5
	// maxSeen bounds how many different INITs are answered in one attempt.
	maxSeen = 256
	// maxDials bounds the QUIC dials of one attempt.
	maxDials = 6
	// redialSlack is how much later than expected a handshake may be before the
	// first flight counts as lost. Computing takes some time, and a handshake that
	// is repeated needlessly takes it away from the first one.
	redialSlack = 10 * time.Millisecond
)

// path is one address of the other peer that is being tried.
type path struct {
	addr      netip.AddrPort
	kind      pb.Candidate_Type
	sent      int       // INITs
	due       time.Time // when the next INIT goes out
	sends     []sentInit
	answered  bool
	rtt       time.Duration // smallest, of answered INITs
	heard     bool          // a valid INIT came from here
	firstFrom time.Time     // when the hole was first known open: heard or answered
	dials     int
	lastDial  time.Time
	redialAt  time.Time // when the dial under way counts as lost; zero: not known
	idle      bool      // the last dial has failed, none is under way
	missed    bool      // the last dial's first flight was lost, most likely at a closed NAT
	excluded  bool      // somebody else lives there
}

type sentInit struct {
	tid [12]byte
	at  time.Time
}

func (p *path) open() bool { return p.heard || p.answered }

// dialable tells whether large packets may go there. A peer-reflexive address
// must have answered: a valid INIT alone may be one that somebody has captured
// and sent on from a forged address.
func (p *path) dialable() bool {
	return p.answered || p.heard && p.kind != pb.Candidate_PEER_REFLEXIVE
}

// punch decides which INITs one attempt sends when, and when it dials. It does
// no I/O and knows no clock: every method is told the time. It is not safe for
// concurrent use.
type punch struct {
	dialler  bool
	fire     time.Time
	deadline time.Time
	hush     time.Time // when the attempt ends if nothing has come in
	paths    []*path
	first    *path // to dial as it fires; nil: what answers
	several  bool  // the order has several candidates
	reflex   int
	seen     map[[12]byte]netip.AddrPort
	dials    int
	quiet    bool // a handshake is complete: no more INITs
	// slack is added to how late a handshake may be before the first flight counts as lost, where many are made at once.
	slack time.Duration

	initsOut, initsIn uint32
	firstOut, firstIn time.Time
}

func newPunch(dialler bool, candidates []candidate, fire, deadline time.Time) *punch {
	p := &punch{dialler: dialler, fire: fire, deadline: deadline, hush: deadline, seen: make(map[[12]byte]netip.AddrPort)}
	for _, c := range candidates {
		if len(p.paths) == protocol.MaxCandidates {
			break
		}
		if p.find(c.addr) == nil {
			p.paths = append(p.paths, &path{addr: c.addr, kind: c.kind, due: fire})
		}
	}
	p.first, p.several = chooseFirst(p.paths), len(p.paths) > 1
	return p
}

// candidate is an address of an order.
type candidate struct {
	addr netip.AddrPort
	kind pb.Candidate_Type
}

func (p *punch) find(a netip.AddrPort) *path {
	for _, c := range p.paths {
		if c.addr == a {
			return c
		}
	}
	return nil
}

// outInit is an INIT to be sent now.
type outInit struct {
	to  netip.AddrPort
	tid [12]byte
}

// inits returns the INITs that are due. The caller sends them.
func (p *punch) inits(now time.Time) (out []outInit) {
	if p.quiet || now.Before(p.fire) || !now.Before(p.deadline) {
		return nil
	}
	for _, c := range p.paths {
		if c.due.IsZero() || now.Before(c.due) {
			continue
		}
		out = append(out, p.send(c, now))
		c.due = now.Add(p.gap(c.sent))
		if c.answered || c.kind == pb.Candidate_PEER_REFLEXIVE && c.sent >= maxReflexiveInits {
			c.due = time.Time{}
		}
	}
	return out
}

func (p *punch) send(c *path, now time.Time) outInit {
	var o outInit
	o.to = c.addr
	_, _ = rand.Read(o.tid[:]) // does not fail
	c.sent++
	c.sends = append(c.sends, sentInit{o.tid, now})
	p.initsOut++
	if p.firstOut.IsZero() {
		p.firstOut = now
	}
	return o
}

// busy tells whether the attempt is one of many at once: packets then take their time, and each one less is time for the others.
func (p *punch) busy() bool { return p.slack >= gateSlack }

// gap is gap, for a busy peer: many INITs at once take their time to be answered.
func (p *punch) gap(n int) time.Duration {
	if p.busy() {
		return initBusyGap
	}
	return gap(n)
}

// gap returns the time between the n-th INIT, counted from 1, and the next.
func gap(n int) time.Duration {
	d := initFirstGap
	for i := 1; i < n && d < initMaxGap; i++ {
		d *= 2
	}
	return min(d, initMaxGap)
}

// heardInit notes a valid INIT. It returns whether to answer it and, where the
// answer is not enough to open the path, an INIT to send along with it.
func (p *punch) heardInit(now time.Time, from netip.AddrPort, tid [12]byte) (answer bool, also []outInit) {
	if _, again := p.seen[tid]; again || len(p.seen) >= maxSeen {
		return false, nil // a duplicate or a replay, maybe from a forged address
	}
	c := p.find(from)
	if c == nil {
		if p.reflex == protocol.MaxPeerReflexive {
			return false, nil
		}
		p.reflex++
		c = &path{addr: from, kind: pb.Candidate_PEER_REFLEXIVE, due: now}
		p.paths = append(p.paths, c)
	}
	p.seen[tid] = from
	p.initsIn++
	if p.firstIn.IsZero() {
		p.firstIn = now
	}
	if !c.heard {
		c.heard = true
		p.opened(c, now)
		// The other side's NAT is open now, whatever became of the INITs before. A dialler wants to know at once
		// whether its first flight has met it so. (With many at once it has not dialled yet, and the answer opens its path.)
		if !p.quiet && !c.answered && !now.Before(p.fire) && !c.due.IsZero() && (p.dialler && !p.busy() || c.sent == 0) {
			also = append(also, p.send(c, now))
			c.due = now.Add(p.gap(c.sent))
		}
		if p.busy() && c.sent > 0 && c.kind != pb.Candidate_PEER_REFLEXIVE {
			c.due = time.Time{} // both NATs are open; if the answer is lost, the other side asks again
		}
	}
	return true, also
}

// heardResponse notes an answer to an INIT. It returns the round trip and
// whether the answer belongs to one. from may differ from where the INIT was
// sent: then it is not accepted (RFC 8445 section 7.2.5.2.1).
func (p *punch) heardResponse(now time.Time, from netip.AddrPort, tid [12]byte) (time.Duration, bool) {
	c := p.find(from)
	if c == nil {
		return 0, false
	}
	for i := range c.sends {
		s := &c.sends[i]
		if s.tid != tid {
			continue
		}
		rtt := now.Sub(s.at)
		first := !c.answered
		if first || rtt < c.rtt {
			c.rtt = rtt
		}
		c.answered = true
		c.due = time.Time{}
		p.opened(c, now)
		if first && c.dials > 0 {
			p.judgeDial(c, s.at, now)
		}
		return rtt, true
	}
	return 0, false
}

func (p *punch) opened(c *path, now time.Time) {
	if !c.firstFrom.IsZero() {
		return
	}
	c.firstFrom = now
	switch {
	case c.dials == 0:
	case c.idle:
		c.redialAt = now
	case c.redialAt.IsZero():
		// One way takes no longer than the time since the dial. So after as much time again the handshake's
		// answer must be here, unless the first flight met a closed NAT.
		c.redialAt = c.lastDial.Add(2*now.Sub(c.lastDial) + redialSlack + p.slack)
	}
}

// judgeDial uses the first answered INIT, sent at sentAt, to tell whether the
// dial under way has met an open NAT.
func (p *punch) judgeDial(c *path, sentAt, now time.Time) {
	if sentAt.After(c.lastDial) {
		c.redialAt, c.missed = now.Add(p.slack), true // the INIT sent beside the dial was lost, a later one was not
		return
	}
	// The INIT beside the first flight passed, so the flight most likely did; a
	// handshake takes some computing more.
	c.redialAt = c.lastDial.Add(3*c.rtt + 25*time.Millisecond + p.slack)
}

// dialable tells whether some path is known open.
func (p *punch) dialable() bool {
	for _, c := range p.paths {
		if c.dialable() && !c.excluded {
			return true
		}
	}
	return false
}

// dial returns the address to dial now, if any. The caller dials it.
func (p *punch) dial(now time.Time) (netip.AddrPort, bool) {
	if !p.dialler || p.quiet || now.Before(p.fire) || !now.Before(p.deadline) || p.dials >= maxDials {
		return netip.AddrPort{}, false
	}
	var best *path
	for _, c := range p.paths {
		switch {
		case c.excluded:
		case now.Before(p.held(c)):
		case c.dials == 0 && (c.dialable() || p.atOnce(c)):
			if prefers(c, best) {
				best = c
			}
		case c.dials > 0 && c.dialable() && !c.redialAt.IsZero() && !now.Before(c.redialAt):
			if prefers(c, best) {
				best = c
			}
		}
	}
	if best == nil {
		return netip.AddrPort{}, false
	}
	if best.dials == 0 && p.dials > 0 && p.dialling(best, now) {
		return netip.AddrPort{}, false
	}
	best.dials++
	p.dials++
	best.lastDial = now
	best.redialAt, best.idle, best.missed = time.Time{}, false, false
	if best.open() {
		// Known open: only loss can stop this one.
		wait := 50 * time.Millisecond
		if best.answered {
			wait = max(wait, 3*best.rtt+25*time.Millisecond)
		}
		best.redialAt = now.Add((wait + p.slack) << (best.dials - 1))
	}
	return best.addr, true
}

// dialFailed notes that a dial ended without a connection, usually because the
// other side had no order yet and refused it.
func (p *punch) dialFailed(now time.Time, to netip.AddrPort) {
	c := p.find(to)
	if c == nil {
		return
	}
	c.idle = true
	if c.open() {
		c.redialAt = now.Add(initFirstGap << c.dials)
	}
}

// exclude gives up an address at which somebody else has answered. It returns
// whether no address is left.
func (p *punch) exclude(to netip.AddrPort) bool {
	left := 0
	for _, c := range p.paths {
		if c.addr == to {
			c.excluded, c.idle, c.due = true, true, time.Time{}
		}
		if !c.excluded {
			left++
		}
	}
	return left == 0
}

// addrs returns the addresses that are tried.
func (p *punch) addrs() (out []netip.AddrPort) {
	for _, c := range p.paths {
		out = append(out, c.addr)
	}
	return out
}

// dialling tells whether another open path than c has a dial under way that is not overdue.
func (p *punch) dialling(c *path, now time.Time) bool {
	for _, o := range p.paths {
		if o != c && o.dials > 0 && !o.idle && o.open() && (o.redialAt.IsZero() || now.Before(o.redialAt)) {
			return true
		}
	}
	return false
}

// connected ends the INITs; answers go on until the attempt ends.
func (p *punch) connected() { p.quiet = true }

// next returns when to ask inits and dial again. It may be in the past: what is
// overdue on one path may have to wait for another one.
func (p *punch) next() time.Time {
	at := p.ends()
	if p.quiet {
		return at
	}
	for _, c := range p.paths {
		if !c.due.IsZero() && c.due.Before(at) {
			at = c.due
		}
		if p.dialler && p.dials < maxDials && !c.excluded && c.open() && !c.redialAt.IsZero() && c.redialAt.Before(at) {
			at = c.redialAt
		}
		if until := p.held(c); p.dialler && c.dials == 0 && !until.IsZero() && until.Before(at) {
			at = until
		}
	}
	return at
}

// ends returns when the attempt is over if nothing more happens.
func (p *punch) ends() time.Time {
	for _, c := range p.paths {
		if c.open() {
			return p.deadline
		}
	}
	return p.hush
}

// begin lets the attempt begin now, and end accordingly.
func (p *punch) begin(now time.Time, giveUp, quiet time.Duration) {
	p.fire, p.deadline, p.hush = now, now.Add(giveUp), now.Add(quiet)
}

// alsoSent counts INITs that were not due to inits.
func (p *punch) alsoSent(now time.Time, n int) {
	p.initsOut += uint32(n)
	if p.firstOut.IsZero() && n > 0 {
		p.firstOut = now
	}
}

// openedBy notes that an INIT from another socket, which is the attempt's own from now on, was answered.
func (p *punch) openedBy(now time.Time, from netip.AddrPort, rtt time.Duration) {
	if c := p.find(from); c != nil {
		c.answered, c.rtt, c.due = true, rtt, time.Time{}
		p.opened(c, now)
	}
}

// expects tells whether an Initial from that address may belong to this attempt.
func (p *punch) expects(a netip.AddrPort) bool { return p.find(a) != nil }

// kind returns the type of the candidate at a.
func (p *punch) kind(a netip.AddrPort) pb.Candidate_Type {
	if c := p.find(a); c != nil {
		return c.kind
	}
	return pb.Candidate_PEER_REFLEXIVE
}

// failure says why an attempt that ran out of time without a handshake failed.
func (p *punch) failure(varies bool) protocol.Reason {
	for _, c := range p.paths {
		if c.open() {
			return protocol.ReasonQUICTimeout
		}
	}
	if varies {
		return protocol.ReasonMappingVaries
	}
	return protocol.ReasonNoInbound
}

// skew estimates the distance between the two peers' first INITs, given the
// round trip of the path: how long after ours the other one's was sent.
// It reports false when one of them never came in.
func (p *punch) skew(rtt time.Duration) (time.Duration, bool) {
	if p.firstOut.IsZero() || p.firstIn.IsZero() {
		return 0, false
	}
	return p.firstIn.Add(-rtt / 2).Sub(p.firstOut), true
}
