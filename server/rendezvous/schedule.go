package rendezvous

import "time"

const (
	// fireMargin is added to the slower peer's way when both must fire at one instant: time for it to read its order.
	fireMargin = 10 * time.Millisecond
	// orderAgain is how long it takes, round trips not counted, until QUIC sends a lost order again: max_ack_delay and some
	// time to compute (RFC 9002 section 6.2.1).
	orderAgain = 40 * time.Millisecond
	// guessMargin is how much longer than planned the guesses may take before the many sockets fire all the same. They are
	// told to as soon as the guesses are out.
	guessMargin = time.Second
	// quietTime is how long INITs may go unanswered, round trips not counted, before another strategy is tried: seven are
	// out by then, which 5 % of loss on each of four links leaves one chance in a million.
	quietTime = 400 * time.Millisecond
	// uselessMargin is the same for an INIT to where the other peer cannot be reached: the other's own comes first.
	uselessMargin = 200 * time.Millisecond
	// reportGrace is how long after the end of an attempt the server waits for reports, the way from the peers not counted.
	reportGrace = 500 * time.Millisecond
	// provingGrace is how much longer it waits if there is none: a connection that was made at the last moment is proven in
	// that time, or given up.
	provingGrace = 3 * time.Second
	// paceAbove is how many sessions at once a peer fires as they come; above it they are paced.
	paceAbove = 256
	// paceSlot is the distance of two of its paced sessions.
	paceSlot = 200 * time.Microsecond
	// orderCost is what it takes to make and send the orders of one session of a burst.
	orderCost = 5 * time.Microsecond
	// handshakeCost is what a small machine needs for one of the handshakes that it does at the same time.
	handshakeCost = 5 * time.Millisecond
	// maxBurst bounds what the size of a burst adds to its attempts. Peers that share a machine also share the time for the burst.
	maxBurst = 40 * time.Second
)

// pace spreads a burst of sessions.
type pace struct {
	// base is an instant that all can meet. Zero: each fires as its order comes in.
	base time.Time
	// slot is the session's place after base, in which no other session of either peer fires.
	slot int
	// most is how many sessions the burst gives to one peer.
	most int
	// pairs is how many sessions it has in all.
	pairs int
}

// oneWay estimates the way between the server and a peer.
func oneWay(m *member) time.Duration { return m.link.roundTrip() / 2 }

// latest estimates how long an order to a peer may well be on its way: four mean deviations of the way, which is two of the
// round trip, above its mean; but never more than twice the mean, as the first deviation that QUIC assumes is half a round trip.
func latest(m *member) time.Duration {
	way := oneWay(m)
	return way + min(2*m.link.deviation(), way)
}

func slowest(s *session) time.Duration { return max(oneWay(s.sides[0].m), oneWay(s.sides[1].m)) }

// timing is one side's part of the schedule.
type timing struct {
	fire   int64         // on the server's clock; 0: as the order comes in
	giveUp time.Duration // after the fire time
	quiet  time.Duration // the same, if nothing has come in by then
}

// schedule sets the fire times of the current attempt and how long it lasts, and returns when the later side is
// expected to give up.
//
// Firing as the order comes in costs no waiting. The peers then fire as far
// apart as their ways to the server differ, which must stay well below the
// window. Retries and exact sessions have one common instant, which neither's order
// should miss however much its way varies. Fresh sockets are lost on an instant that one side misses, so theirs leaves time
// for a lost order to be sent again. Guesses begin as the order comes in; the many sockets fire when all of them are out.
func (g *group) schedule(s *session, p *pace, now time.Time) time.Time {
	a, b := oneWay(s.sides[0].m), oneWay(s.sides[1].m)
	burst := time.Duration(s.burst) * handshakeCost
	t := timing{giveUp: g.attemptTimeout + 4*(a+b) + burst, quiet: quietTime + 4*(a+b) + burst}
	// Peers on one machine share its time, so the last handshake of a burst may come when all the others are through. INITs cost less.
	all := min(time.Duration(s.pairs)*handshakeCost, maxBurst)
	t.giveUp, t.quiet = t.giveUp+all, t.quiet+all/8
	arrival := now.Add(max(a, b))
	common := now.Add(max(latest(s.sides[0].m), latest(s.sides[1].m)) + fireMargin)
	switch {
	case s.plan.guesses():
		common = common.Add(s.plan.lead() + guessMargin)
		guesser := t
		guesser.giveUp += common.Sub(now)
		guesser.quiet = guesser.giveUp // the other side's word ends the attempt
		t.fire = g.clock.at(common)
		s.sides[s.plan.hard].timing, s.sides[1-s.plan.hard].timing = t, guesser
		return common.Add(t.giveUp)
	case s.plan.strategy == fresh:
		common = common.Add(orderAgain + 6*slowest(s))
	case p != nil && !p.base.IsZero():
		common = p.base.Add(time.Duration(p.slot) * paceSlot)
	case s.attempt == 1 && !s.exact && (a-b).Abs() < g.window/2:
		s.sides[0].timing, s.sides[1].timing = t, t
		d, l := &s.sides[s.dialler], &s.sides[1-s.dialler]
		if open(l.m) && !open(d.m) && !sameSite(l.m, d.m) && !otherwise(l.m, d.m) {
			// It need not open anything. If it is near the server, the dialler's order has only as much time as its INIT.
			after := now.Add(latest(d.m) + fireMargin)
			if varies(d.m) {
				after = now.Add(latest(d.m) + uselessMargin)
			}
			l.timing.fire = g.clock.at(after)
			return after.Add(t.giveUp)
		}
		return arrival.Add(t.giveUp)
	}
	t.fire = g.clock.at(common)
	s.sides[0].timing, s.sides[1].timing = t, t
	return common.Add(t.giveUp)
}

// grace is how long after its end the reports of an attempt may take to come.
func (g *group) grace(s *session) time.Duration { return reportGrace + 2*slowest(s) }
