package rendezvous

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/pb"
)

// clockTolerance is how far an instant of a report may lie outside the attempt:
// the client's estimate of the server's clock is not perfect. Beyond it the instant is ignored.
const clockTolerance = 250 * time.Millisecond

// report takes one side's account of an attempt. One for an unknown session or
// an earlier attempt has crossed a message of ours and is ignored.
func (g *group) report(m *member, r *pb.Report, now time.Time) {
	g.step(func() {
		id, err := protocol.SessionIDFromBytes(r.GetSessionId())
		s := m.sessions[id]
		if err != nil || s == nil || s.state != ordered || int(r.GetAttempt()) != s.attempt || s.sides[s.sideOf(m)].report != nil {
			g.metrics.reports.WithLabelValues("ignored").Inc()
			return
		}
		g.metrics.reports.WithLabelValues("used").Inc()
		g.vet(s, r, now)
		s.sides[s.sideOf(m)].report = r
		g.decide(s, now)
	})
}

// vet removes from a report the instants that cannot be true.
func (g *group) vet(s *session, r *pb.Report, now time.Time) {
	earliest := g.clock.at(s.ordered.Add(-clockTolerance))
	latest := g.clock.at(now.Add(clockTolerance))
	for _, t := range []*int64{&r.FirstInitOutNs, &r.FirstInitInNs, &r.HandshakeDoneNs, &r.ProvenNs} {
		if *t != 0 && (*t < earliest || *t > latest) {
			*t = 0
			g.metrics.implausible.Inc()
		}
	}
}

func ok(r *pb.Report) bool { return r != nil && r.GetReason() == pb.Reason_REASON_UNSPECIFIED }

func failed(r *pb.Report) bool { return r != nil && r.GetReason() != pb.Reason_REASON_UNSPECIFIED }

// decide looks at the reports that are there. The dialler's word counts: it is
// the one who learns last whether the path is proven. The listener's counts
// when the dialler is no longer there.
func (g *group) decide(s *session, now time.Time) {
	d, l := &s.sides[s.dialler], &s.sides[1-s.dialler]
	if !s.succeeded {
		switch {
		case ok(d.report):
			g.succeed(s, d.report)
		case ok(l.report) && d.gone && d.report == nil:
			g.succeed(s, l.report)
		}
	}
	both := (d.report != nil || d.gone) && (l.report != nil || l.gone)
	switch {
	case s.succeeded && both:
		g.observeSkew(s)
		g.close(s)
	case s.succeeded:
	case both:
		g.attemptFailed(s, now)
	case s.plan.guesses() && cannot(s.sides[s.plan.hard].report):
		g.fail(s, protocol.ReasonMappingVaries, fmt.Sprintf("%s cannot open further sockets", s.sides[s.plan.hard].m.name), -1)
	case s.plan.guesses() && failed(s.sides[s.plan.hard].report):
		g.attemptFailed(s, now) // the guesser alone cannot bring it about
	default:
		for _, r := range []*pb.Report{d.report, l.report} {
			if failed(r) && final(protocol.ReasonFromPB(r.GetReason())) {
				g.attemptFailed(s, now)
				return
			}
		}
	}
}

// cannot tells whether a side has not got the sockets that it needs.
func cannot(r *pb.Report) bool { return failed(r) && r.GetReason() == pb.Reason_LIMITED }

// final tells whether a reason makes another attempt pointless.
func final(r protocol.Reason) bool {
	return r == protocol.ReasonCanceled || r == protocol.ReasonIdentityMismatch || r == protocol.ReasonNoPeer
}

// attemptExpired is called when an attempt's time, with the grace for reports, is over.
func (g *group) attemptExpired(s *session, now time.Time) {
	switch {
	case s.state == ordered || s.sides[0].gone || s.sides[1].gone:
	case s.state == preparing:
		g.unprepared(s, now)
		return
	default:
		g.fail(s, protocol.ReasonLimited, "other sessions were guessing ports all the time", -1)
		return
	}
	if s.succeeded {
		g.close(s)
		return
	}
	if s.sides[0].report == nil && s.sides[1].report == nil && !s.extended && !s.sides[0].gone && !s.sides[1].gone {
		// Who has no connection by now has said so, if it is not busy. The others may be proving theirs.
		s.extended = true
		g.deadlines.set(&s.end, now.Add(provingGrace))
		return
	}
	if l := &s.sides[1-s.dialler]; ok(l.report) && s.sides[s.dialler].report == nil {
		g.succeed(s, l.report) // the dialler's report is lost with it, the listener's proof is as good
		g.close(s)
		return
	}
	g.attemptFailed(s, now)
}

// succeed counts a proven path; r is the report that says so.
func (g *group) succeed(s *session, r *pb.Report) {
	s.succeeded = true
	now := time.Now()
	g.giveTurn(s, now)
	s.noteSpoilt(now)
	g.metrics.attempt("success", protocol.ReasonOK, s.natPair())
	g.metrics.strategies.WithLabelValues("success", s.plan.strategy.String()).Inc()
	g.metrics.sessionEnded(protocol.ReasonOK)
	began := g.clock.at(s.began)
	fields := []zap.Field{zap.String("path", protocol.CandidateWord(r.GetPath())), zap.Stringer("strategy", s.plan.strategy)}
	if t := r.GetHandshakeDoneNs(); t != 0 {
		took := max(0, time.Duration(t-began))
		g.metrics.punch.WithLabelValues(s.natPair()).Observe(took.Seconds())
		fields = append(fields, zap.Duration("punch", took))
	}
	if t := r.GetProvenNs(); t != 0 {
		g.metrics.proven.WithLabelValues(s.natPair()).Observe(max(0, time.Duration(t-began)).Seconds())
	}
	g.metrics.paths.WithLabelValues(protocol.CandidateWord(r.GetPath())).Inc()
	if c := s.collective; c != nil {
		c.linked(s.sides[0].m, s.sides[1].m, s.id)
		delete(c.pending, pairOf(s.sides[0].m, s.sides[1].m))
	}
	g.logEnd(s, "session connected", fields...)
}

// skew is the distance between the two first INITs, if both are known and were to be sent at once.
func (s *session) skew() (time.Duration, bool) {
	a, b := s.sides[0].report.GetFirstInitOutNs(), s.sides[1].report.GetFirstInitOutNs()
	return time.Duration(a - b).Abs(), a != 0 && b != 0 && !s.plan.guesses()
}

// observeSkew counts the skew of an attempt.
func (g *group) observeSkew(s *session) {
	if skew, known := s.skew(); known {
		g.metrics.skew.Observe(skew.Seconds())
		if skew > g.window {
			g.metrics.outsideWindow.Inc()
		}
	}
}

// attemptFailed begins the next attempt, roles swapped, or ends the session.
func (g *group) attemptFailed(s *session, now time.Time) {
	g.observeSkew(s)
	g.giveTurn(s, now)
	reason, detail := g.judge(s)
	g.metrics.attempt("failure", reason, s.natPair())
	g.metrics.strategies.WithLabelValues("failure", s.plan.strategy.String()).Inc()
	if s.attempt >= g.maxAttempts+s.moved || final(reason) || pointless(s.sides[0].m, s.sides[1].m) ||
		apart(s.sides[0].m, s.sides[1].m) || g.draining {
		g.fail(s, reason, detail, -1)
		return
	}
	for i := range s.sides {
		r := s.sides[i].report
		s.silent = s.silent || failed(r) && (r.GetInitsIn() == 0 || r.GetReason() == pb.Reason_NO_INBOUND || r.GetReason() == pb.Reason_WINDOW_MISSED)
	}
	s.dialler = 1 - s.dialler
	g.next(s, nil, now)
}

// judge finds the reason of a failed attempt from what the two sides saw.
func (g *group) judge(s *session) (protocol.Reason, string) {
	for i := range s.sides {
		if s.sides[i].gone {
			return protocol.ReasonNoPeer, fmt.Sprintf("%s is no longer signed in", s.sides[i].m.name)
		}
	}
	// What a side reports outright comes first, in this order.
	for _, want := range []protocol.Reason{
		protocol.ReasonCanceled, protocol.ReasonIdentityMismatch, protocol.ReasonNoPeer, protocol.ReasonProofFailed,
	} {
		for i := range s.sides {
			if r := s.sides[i].report; failed(r) && protocol.ReasonFromPB(r.GetReason()) == want {
				return want, fmt.Sprintf("reported by %s", s.sides[i].m.name)
			}
		}
	}
	if skew, known := s.skew(); known && skew > g.window {
		return protocol.ReasonWindowMissed, fmt.Sprintf("the first INITs were sent %v apart, the window is %v", skew, g.window)
	}
	for i := range s.sides {
		if r := s.sides[i].report; failed(r) && r.GetInitsOut() > 0 && r.GetInitsIn() == 0 {
			if varies(s.sides[0].m) || varies(s.sides[1].m) {
				return protocol.ReasonMappingVaries, fmt.Sprintf("nothing came in at %s; a NAT gives every destination another port", s.sides[i].m.name)
			}
			return protocol.ReasonNoInbound, fmt.Sprintf("%s sent %d INITs and nothing came in", s.sides[i].m.name, r.GetInitsOut())
		}
	}
	for i := range s.sides {
		if r := s.sides[i].report; failed(r) {
			return protocol.ReasonFromPB(r.GetReason()), fmt.Sprintf("reported by %s", s.sides[i].m.name)
		}
	}
	return protocol.ReasonQUICTimeout, "no side reported in time"
}
