package rendezvous

import "time"

const (
	// fireMargin is added to the slower peer's way when both must fire at one instant: time for it to read its order.
	fireMargin = 10 * time.Millisecond
	// reportGrace is how long after the end of an attempt the server waits for reports, the way from the peers not counted.
	reportGrace = 500 * time.Millisecond
	// paceAbove is how many sessions at once a peer fires as they come; above it they are paced.
	paceAbove = 256
	// paceSlot is the distance of two of its paced sessions.
	paceSlot = 200 * time.Microsecond
	// orderCost is what it takes to make and send the orders of one session of a burst.
	orderCost = 5 * time.Microsecond
	// handshakeCost is what a small machine needs for one of the handshakes that it does at the same time.
	handshakeCost = 5 * time.Millisecond
)

// pace spreads a burst of sessions.
type pace struct {
	// base is an instant that all can meet. Zero: each fires as its order comes in.
	base time.Time
	// slot is the session's place after base, in which no other session of either peer fires.
	slot int
	// most is how many sessions the burst gives to one peer.
	most int
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

// schedule sets the fire time of the current attempt and how long it lasts, and
// returns when the later of the two is expected to fire.
//
// Firing as the order comes in costs no waiting. The peers then fire as far
// apart as their ways to the server differ, which must stay well below the
// window. Retries and exact sessions have one common instant, which neither's order
// should miss however much its way varies.
func (g *group) schedule(s *session, p *pace, now time.Time) time.Time {
	a, b := oneWay(s.sides[0].m), oneWay(s.sides[1].m)
	s.giveUp = g.attemptTimeout + 4*(a+b) + time.Duration(s.burst)*handshakeCost
	arrival := now.Add(max(a, b))
	common := now.Add(max(latest(s.sides[0].m), latest(s.sides[1].m)) + fireMargin)
	switch {
	case p != nil && !p.base.IsZero():
		common = p.base.Add(time.Duration(p.slot) * paceSlot)
	case s.attempt == 1 && !s.exact && (a-b).Abs() < g.window/2:
		s.fireTime = 0
		return arrival
	}
	s.fireTime = g.clock.at(common)
	return common
}

// grace is how long after its end the reports of an attempt may take to come.
func (g *group) grace(s *session) time.Duration { return reportGrace + 2*slowest(s) }
