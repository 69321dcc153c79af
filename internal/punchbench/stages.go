package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/bradawl/bradawl/client"
)

// steps are the first instants of one attempt of ours, at a.
type steps struct {
	mu                     sync.Mutex
	order, dial, connected time.Time
}

func (s *steps) note(e client.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for kind, at := range map[client.EventKind]*time.Time{
		client.EventOrder: &s.order, client.EventDial: &s.dial, client.EventConnected: &s.connected,
	} {
		if kind == e.Kind && at.IsZero() {
			*at = e.Time
		}
	}
}

// stages are where the time of our attempts went.
type stages struct{ order, dial, handshake, hand []time.Duration }

func (s *stages) add(began time.Time, stream time.Duration, t *steps) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.order = append(s.order, t.order.Sub(began))
	s.dial = append(s.dial, t.dial.Sub(t.order))
	s.handshake = append(s.handshake, t.connected.Sub(t.dial))
	s.hand = append(s.hand, began.Add(stream).Sub(t.connected))
}

// breakdown is stages in milliseconds.
type breakdown struct {
	// Order is from the call to the order, S and what it takes to handle.
	Order *spread `json:"order_ms"`
	// Dial is from there to the first flight.
	Dial *spread `json:"dial_ms"`
	// Handshake is until the handshake is complete: P, and both sides' computing.
	Handshake *spread `json:"handshake_ms"`
	// Hand is from there until the caller has a stream.
	Hand *spread `json:"hand_ms"`
}

func (s *stages) breakdown() *breakdown {
	if len(s.order) == 0 {
		return nil
	}
	return &breakdown{spreadOf(s.order), spreadOf(s.dial), spreadOf(s.handshake), spreadOf(s.hand)}
}

// String is a line.
func (b *breakdown) String() string {
	var out []string
	for _, p := range []struct {
		what string
		s    *spread
	}{{"call to order", b.Order}, {"to dial", b.Dial}, {"handshake", b.Handshake}, {"to stream", b.Hand}} {
		out = append(out, fmt.Sprintf("%s %.2f", p.what, p.s.P50))
	}
	return "bradawl, p50 of each stage: " + strings.Join(out, ", ")
}
