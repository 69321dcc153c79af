package rendezvous

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/bradawl/bradawl/protocol"
)

// metrics are the engine's instruments. All labels come from fixed sets and all
// series exist from the start, so that no client can make new ones.
type metrics struct {
	attempts      *prometheus.CounterVec
	sessions      *prometheus.CounterVec
	strategies    *prometheus.CounterVec
	sessionsOpen  prometheus.Gauge
	punch         *prometheus.HistogramVec
	proven        *prometheus.HistogramVec
	paths         *prometheus.CounterVec
	skew          prometheus.Histogram
	outsideWindow prometheus.Counter
	reports       *prometheus.CounterVec
	implausible   prometheus.Counter
	orders        prometheus.Counter
	ordered       prometheus.Counter
	lost          prometheus.Counter
	peers         prometheus.Gauge
	groups        prometheus.Gauge
	pending       prometheus.Gauge
	signIns       *prometheus.CounterVec
	retries       prometheus.Counter
	stun          *prometheus.CounterVec
	controlRTT    prometheus.Histogram
	clockRequests *prometheus.CounterVec
	drops         *prometheus.CounterVec
	addressProofs *prometheus.CounterVec
}

// noReason stands for the absence of a reason in a label: an empty value would be no label at all.
const noReason = "none"

func reasonLabel(r protocol.Reason) string {
	if r == protocol.ReasonOK {
		return noReason
	}
	return string(r)
}

// Why a signed-in peer's connection was dropped by the server, and why a connection was not let in.
const (
	dropSlow      = "slow_reader"
	dropProtocol  = "protocol_error"
	dropReplaced  = "replaced"
	dropPending   = "pending_limit"
	dropNoSignIn  = "sign_in_timeout"
	dropTCPConns  = "tcp_limit"
	dropMalformed = "malformed_sign_in"
)

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "bradawl", Name: name, Help: help})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "bradawl", Name: name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "bradawl", Name: name, Help: help})
	}
	durations := []float64{.001, .002, .005, .01, .02, .03, .05, .075, .1, .15, .2, .3, .5, 1, 2, 5}
	histogram := func(name, help string, buckets []float64) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Namespace: "bradawl", Name: name, Help: help, Buckets: buckets}
	}
	m := &metrics{
		attempts: counters("punch_attempts_total",
			"Attempts to connect two peers, by result, by the reason of a failure and by the mapping behaviours of the two NATs.", "result", "reason", "nat_pair"),
		sessions: counters("sessions_total",
			"Sessions that have ended, by result and by the reason of a failure; a session has up to three attempts.", "result", "reason"),
		strategies:   counters("punch_strategies_total", "Attempts to connect two peers, by result and by how they went about it.", "result", "strategy"),
		sessionsOpen: gauge("sessions", "Sessions that have not ended."),
		punch: prometheus.NewHistogramVec(histogram("punch_duration_seconds",
			"Time from a session's first order to the QUIC handshake between its peers.", durations), []string{"nat_pair"}),
		proven: prometheus.NewHistogramVec(histogram("punch_proven_duration_seconds",
			"Time from a session's first order to the proof that full-size data passes both ways.", durations), []string{"nat_pair"}),
		paths: counters("punch_paths_total", "Proven paths by the type of candidate that won.", "candidate"),
		skew: prometheus.NewHistogram(histogram("init_skew_seconds", "Distance between the first INITs of the two peers of an attempt.",
			[]float64{.0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2})),
		outsideWindow: counter("init_outside_window_total", "Attempts whose first INITs were further apart than the window."),
		reports:       counters("reports_total", "Reports of peers on attempts, by whether they were used.", "result"),
		implausible:   counter("reports_implausible_total", "Instants in reports that cannot be true and were ignored."),
		orders:        counter("orders_total", "Order messages sent; one may hold many sessions."),
		ordered:       counter("ordered_sessions_total", "Sessions in the orders sent, counted once per peer and attempt."),
		lost:          counter("links_lost_total", "Reports that a link of a collective is lost; both of its sides may report it."),
		peers:         gauge("peers", "Peers that are signed in."),
		groups:        gauge("groups", "Groups with at least one peer."),
		pending:       gauge("pending_connections", "Control connections that are not signed in yet, handshakes included."),
		signIns:       counters("sign_ins_total", "Sign-ins by result and by the reason of a refusal.", "result", "reason"),
		retries:       counter("quic_retries_total", "QUIC Retry packets sent to prove the source of new connections under load."),
		stun:          counters("stun_requests_total", "Packets at the STUN sockets, by transport and by what was done.", "transport", "result"),
		controlRTT: prometheus.NewHistogram(histogram("control_rtt_seconds", "Round trip of the control connections, sampled at clock requests.",
			[]float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1})),
		clockRequests: counters("clock_requests_total", "Clock datagrams by what was done.", "result"),
		addressProofs: counters("address_proofs_total", "Proofs of peers' addresses in their other family, by whether they were used.", "result"),
		drops:         counters("connections_dropped_total", "Connections that the server refused or closed, by why.", "why"),
	}
	m.initSeries()
	for _, c := range []prometheus.Collector{
		m.attempts, m.sessions, m.strategies, m.sessionsOpen, m.punch, m.proven, m.paths, m.skew, m.outsideWindow, m.reports, m.implausible,
		m.orders, m.ordered, m.lost, m.peers, m.groups, m.pending, m.signIns, m.retries, m.stun, m.controlRTT, m.clockRequests, m.drops, m.addressProofs,
	} {
		if err := r.Register(c); err != nil {
			return nil, errors.Join(errors.New("rendezvous: register metrics"), err)
		}
	}
	return m, nil
}

// initSeries makes every series that there will ever be.
func (m *metrics) initSeries() {
	labels := mappingLabels()
	for i, a := range labels {
		for _, b := range labels[i:] {
			pair := a + "/" + b
			m.punch.WithLabelValues(pair)
			m.proven.WithLabelValues(pair)
			m.attempts.WithLabelValues("success", noReason, pair)
			for _, r := range protocol.Reasons() {
				m.attempts.WithLabelValues("failure", string(r), pair)
			}
		}
	}
	for _, word := range strategies() {
		m.strategies.WithLabelValues("success", word)
		m.strategies.WithLabelValues("failure", word)
	}
	m.sessions.WithLabelValues("success", noReason)
	m.signIns.WithLabelValues("success", noReason)
	for _, r := range protocol.Reasons() {
		m.sessions.WithLabelValues("failure", string(r))
	}
	for _, r := range []protocol.Reason{protocol.ReasonUnauthorized, protocol.ReasonLimited} {
		m.signIns.WithLabelValues("refused", string(r))
	}
	for _, c := range []string{"host", "server_reflexive", "peer_reflexive", "relayed", "unknown"} {
		m.paths.WithLabelValues(c)
	}
	for t := stunMain; t <= stunTCP; t++ {
		for _, r := range []string{"answered", "refused", "limited", "bad"} {
			m.stun.WithLabelValues(t.String(), r)
		}
	}
	for _, r := range []string{"used", "ignored"} {
		m.reports.WithLabelValues(r)
		m.addressProofs.WithLabelValues(r)
	}
	for _, r := range []string{"answered", "limited", "bad"} {
		m.clockRequests.WithLabelValues(r)
	}
	for _, w := range []string{dropSlow, dropProtocol, dropReplaced, dropPending, dropNoSignIn, dropTCPConns, dropMalformed} {
		m.drops.WithLabelValues(w)
	}
}

func (m *metrics) attempt(result string, r protocol.Reason, pair string) {
	m.attempts.WithLabelValues(result, reasonLabel(r), pair).Inc()
}

func (m *metrics) sessionEnded(r protocol.Reason) {
	if r == protocol.ReasonOK {
		m.sessions.WithLabelValues("success", noReason).Inc()
		return
	}
	m.sessions.WithLabelValues("failure", string(r)).Inc()
}
