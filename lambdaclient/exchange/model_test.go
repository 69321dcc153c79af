package exchange

import (
	"fmt"
	"hash/maphash"
	"strings"
	"testing"
	"time"
)

// A model of the exchange: one producer, its consumers, S3 and the driver, as a
// state machine whose every step is one request, message or death. What a
// process decides in a step is decided by the product's own code (decide,
// onRecord, pick, join, farewell, judge); the model only has the world around
// them, in which everything happens at the worst moment. docs/exchange.md has
// the invariants that are checked in every state.

// Sizes of the arrays. A bounds uses as much of them as it says.
const (
	modelAttempts  = 3 // of the producer, and of each consumer
	modelConsumers = 3
	modelHalves    = 2 // pieces of a partition
)

// bounds is what a model is bounded by, and what does not change in it.
type bounds struct {
	attempts, consumers int
	policy              Policy
	// content says which bytes each attempt's halves have: different numbers differ.
	content [modelAttempts][modelHalves]uint8
	damage  bool  // S3 may damage an object
	barred  bool  // S3 may refuse all that a producer writes
	faults  uint8 // how many there may be, of all kinds together

	consumer *Consumer // whose settings the product's judge goes by
	records  [modelAttempts][2][1 << modelConsumers]*commitRecord
}

func (w bounds) prepared() *bounds {
	w.consumer = &Consumer{cfg: ConsumerConfig{Mode: Auto, Patience: time.Second}, view: &storeView{}}
	w.makeRecords()
	return &w
}

type producerPhase uint8

const (
	producerAbsent producerPhase = iota
	producerWorks
	producerServes  // has finished, and decides
	producerPuts    // is going to write its data
	producerClaims  // is going to write the record, if there is none
	producerLooks   // is going to read the record that is there
	producerReplace // is going to put its own in the place of the one seen
	producerSaved   // goes on serving
	producerLeft
	producerDead
)

func (p producerPhase) alive() bool { return p > producerAbsent && p < producerLeft }

// serving says that it answers requests for its partition.
func (p producerPhase) serving() bool { return p >= producerServes && p <= producerSaved }

type consumerPhase uint8

const (
	consumerAbsent consumerPhase = iota
	consumerSeeks                // has no source
	consumerReads
	consumerWhole // all read, length and checksum right
	consumerAcks  // its output is committed
	consumerDone
	consumerLost // ended with a LostError
	consumerDead
)

func (p consumerPhase) alive() bool { return p > consumerAbsent && p < consumerDone }

// modelRecord is a commit record: attempt's partitions in mask, by its nth try.
type modelRecord struct {
	there        bool
	attempt, try uint8
	mask         uint8
}

type modelProducer struct {
	phase  producerPhase
	frozen bool // out of reach, and thought dead: a zombie if it comes back
	acked  uint8
	mask   uint8 // that it writes or wrote
	try    uint8
	seen   modelRecord
	saved  bool
	barred bool
	noLink uint8 // consumers to which a link cannot be had
	code   uint64
}

type modelConsumer struct {
	phase  consumerPhase
	frozen bool
	head   int8 // the attempt of what was read; -1: nothing
	off    uint8
	got    [modelHalves]uint8
	from   uint8 // attempt that is read now
	byS3   bool
	struck uint8 // attempts whose object was found bad
}

type modelState struct {
	producers [modelAttempts]modelProducer
	consumers [modelConsumers][modelAttempts]modelConsumer
	record    modelRecord
	objects   [modelAttempts][2]uint8 // by attempt and try: partitions in it; 0x80: it is there
	damaged   uint8                   // attempts whose objects are
	out       [modelConsumers]uint8   // 0: none, else 1 + the attempt whose bytes they are
	commits   [modelConsumers]uint8
	useless   uint8 // attempts that LostErrors have named
	missing   bool  // a consumer ended with a LostError that the driver has not answered
	faults    uint8 // so far
	gaveUp    bool  // the driver has no more attempts
}

const objectThere = 0x80

// step is a transition. Faults are what nobody asked for: without them things
// have to come to a good end.
type modelStep struct {
	name  string
	fault bool
	to    modelState
}

// visitor gets the steps out of a state. name is made only if somebody wants it.
type visitor func(fault bool, to *modelState, name func() string)

func (w *bounds) start() *modelState {
	s := &modelState{}
	s.producers[0].phase = producerWorks
	for j := range w.consumers {
		s.consumers[j][0] = newModelConsumer()
	}
	return s
}

func newModelConsumer() modelConsumer { return modelConsumer{phase: consumerSeeks, head: -1} }

// steps visits everything that may happen next.
func (w *bounds) steps(s *modelState, visit visitor) {
	w.allSteps(s, func(fault bool, to *modelState, name func() string) {
		if fault {
			if s.faults == w.faults {
				return
			}
			to.faults++
		}
		to.forget()
		visit(fault, to, name)
	})
}

// forget drops what makes no difference any more, so that states are the same
// that go on in the same ways.
func (s *modelState) forget() {
	for a := range s.producers {
		switch p := &s.producers[a]; p.phase {
		case producerLeft:
			*p = modelProducer{phase: producerLeft, saved: p.saved, code: p.code}
		case producerDead:
			*p = modelProducer{phase: producerDead}
		default:
			continue
		}
		for try := range s.objects[a] {
			if r := s.record; !r.there || int(r.attempt) != a || int(r.try) != try {
				s.objects[a][try] = 0
			}
		}
	}
}

func (w *bounds) allSteps(s *modelState, visit visitor) {
	for a := range w.attempts {
		w.producerSteps(s, a, visit)
	}
	for j := range w.consumers {
		for b := range w.attempts {
			w.consumerSteps(s, j, b, visit)
		}
	}
	w.driverSteps(s, visit)
	if w.damage {
		for a := range w.attempts {
			if s.record.there && int(s.record.attempt) == a && s.damaged == 0 {
				to := *s
				to.damaged |= 1 << a
				visit(true, &to, func() string { return fmt.Sprintf("S3 damages attempt %d", a) })
			}
		}
	}
}

// driverSteps: it starts attempts, and may take anyone for dead.
func (w *bounds) driverSteps(s *modelState, visit visitor) {
	for j := range w.consumers {
		if s.out[j] != 0 || s.missing { // the producer first
			continue
		}
		for b := range w.attempts {
			c := &s.consumers[j][b]
			ended := c.phase == consumerLost || c.phase == consumerDead || c.phase.alive() && c.frozen
			if !ended {
				continue
			}
			if b+1 < w.attempts {
				if s.consumers[j][b+1].phase == consumerAbsent {
					to := *s
					to.consumers[j][b+1] = newModelConsumer()
					visit(false, &to, func() string { return fmt.Sprintf("driver starts consumer %d attempt %d", j, b+1) })
				}
			} else if !s.gaveUp {
				to := *s
				to.gaveUp = true
				visit(false, &to, func() string { return "driver gives up" })
			}
		}
	}
	if s.missing {
		to := *s
		to.missing = false
		next := 0
		for next < w.attempts && s.producers[next].phase != producerAbsent {
			next++
		}
		newest := &s.producers[next-1]
		to.useless |= 1 << (next - 1) // also where the consumer could not tell whom it missed
		switch {
		case newest.phase.alive() && !newest.frozen: // a newer one is on its way
			to.useless = s.useless
		case next == w.attempts:
			to.gaveUp = true
		default:
			to.producers[next].phase = producerWorks
		}
		visit(false, &to, func() string { return "driver answers a LostError" })
	}
}

// broken names the invariant that a state breaks; empty if none.
func (w *bounds) broken(s *modelState) string {
	for j := range w.consumers {
		if s.out[j] == mixedOutput {
			return fmt.Sprintf("the output of consumer %d is no attempt's", j)
		}
		if s.commits[j] > 1 {
			return fmt.Sprintf("the output of consumer %d was committed twice", j)
		}
		for a := range w.attempts {
			if p := &s.producers[a]; p.acked&(1<<j) != 0 && s.out[j] == 0 {
				return fmt.Sprintf("attempt %d has an acknowledgement of consumer %d, whose output is not there", a, j)
			}
		}
	}
	if r := s.record; r.there && r.mask != 0 && s.objects[r.attempt][r.try] != objectThere|r.mask {
		return fmt.Sprintf("the record of attempt %d names an object that is not there", r.attempt)
	}
	for a := range w.attempts {
		p := &s.producers[a]
		if !p.saved && (p.phase != producerLeft || p.code == closeGone) {
			continue
		}
		for j := range w.consumers {
			if s.out[j] == 0 && (!s.record.there || s.record.mask&(1<<j) == 0) {
				return fmt.Sprintf("attempt %d holds partition %d for safe, and it is neither on S3 nor committed", a, j)
			}
			if r := s.record; s.out[j] == 0 && int(r.attempt) < a && s.damaged&s.useless&(1<<r.attempt) != 0 {
				return fmt.Sprintf("attempt %d holds partition %d for safe in the object of attempt %d, which it was told is of no use", a, j, r.attempt)
			}
		}
	}
	return ""
}

// over says that there is nothing left to be done.
func (w *bounds) over(s *modelState) bool {
	if s.gaveUp {
		return true
	}
	for j := range w.consumers {
		if s.out[j] == 0 {
			return false
		}
	}
	return true
}

// hash stands for a state: 128 bits do not collide among some millions.
func (s *modelState) hash(seeds [2]maphash.Seed) [2]uint64 {
	return [2]uint64{maphash.Comparable(seeds[0], *s), maphash.Comparable(seeds[1], *s)}
}

// boundedModels are the bounded models that are explored in full.
func boundedModels() map[string]bounds {
	same := [modelAttempts][modelHalves]uint8{{1, 2}, {1, 2}, {1, 2}}
	lateDifference := [modelAttempts][modelHalves]uint8{{1, 2}, {1, 3}, {1, 4}}
	difference := [modelAttempts][modelHalves]uint8{{1, 2}, {3, 4}, {5, 6}}
	soon := Policy{TimeToSync: 1, TimeToLive: 2}
	never := Policy{TimeToSync: Never, TimeToLive: Never}
	many := uint8(2)
	if testing.Short() || raceDetector {
		many = 1 // 2 are two million states
	}
	return map[string]bounds{
		"two consumers, write-through":           {attempts: 2, consumers: 2, faults: many, content: difference},
		"two consumers, time-to-sync":            {attempts: 2, consumers: 2, faults: 1, content: lateDifference, policy: soon},
		"two consumers, never":                   {attempts: 2, consumers: 2, faults: 1, content: difference, policy: never},
		"one consumer, time-to-sync":             {attempts: 2, consumers: 1, faults: 4, content: lateDifference, policy: soon},
		"one consumer, never":                    {attempts: 2, consumers: 1, faults: 4, content: same, policy: never},
		"one consumer, an object may be damaged": {attempts: 2, consumers: 1, faults: 3, content: difference, policy: soon, damage: true},
		"one consumer, S3 may refuse":            {attempts: 2, consumers: 1, faults: 3, content: difference, policy: soon, barred: true},
		"one consumer, three attempts":           {attempts: 3, consumers: 1, faults: 2, content: difference, policy: soon},
	}
}

// describe is for a person who has to understand a failure.
func (w *bounds) describe(path []string, s *modelState) string {
	return fmt.Sprintf("%s\nends in %+v", strings.Join(path, "\n"), *s)
}

func TestTheProtocolExhaustively(t *testing.T) {
	t.Parallel()
	for name, w := range boundedModels() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w.prepared().explore(t)
		})
	}
}

// visited is a state that was reached, with the way to it.
type visited struct {
	parent int32
	step   uint16 // which of the parent's steps
}

// explore visits every state, and then asks whether from each of them a good
// end can be reached without another fault.
func (w *bounds) explore(t *testing.T) {
	seeds := [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	ids := map[[2]uint64]int32{}
	var nodes []visited
	var queue []modelState
	add := func(s *modelState, parent int32, step uint16) int32 {
		h := s.hash(seeds)
		if id, ok := ids[h]; ok {
			return id
		}
		id := int32(len(nodes))
		ids[h] = id
		nodes = append(nodes, visited{parent, step})
		queue = append(queue, *s)
		return id
	}
	add(w.start(), -1, 0)
	var edges [][2]int32 // without a fault, backwards
	var good []int32
	steps, ends := 0, 0
	for id := int32(0); len(queue) > 0; id++ {
		s := queue[0]
		queue = queue[1:]
		if why := w.broken(&s); why != "" {
			t.Fatalf("%s\n%s", why, w.describe(w.path(nodes, id), &s))
		}
		if s.gaveUp && w.attempts > int(w.faults) {
			t.Fatalf("the driver gives up, although no fault was left for the last attempt\n%s", w.describe(w.path(nodes, id), &s))
		}
		if w.over(&s) {
			good = append(good, id)
			ends++
		}
		n := uint16(0)
		w.steps(&s, func(fault bool, to *modelState, name func() string) {
			next := add(to, id, n)
			n++
			steps++
			if !fault {
				edges = append(edges, [2]int32{next, id})
			}
		})
	}
	reached := backwards(len(nodes), edges, good)
	for id, ok := range reached {
		if !ok {
			s := w.replay(nodes, int32(id))
			t.Fatalf("nothing leads to an end any more\n%s", w.describe(w.path(nodes, int32(id)), &s))
		}
	}
	t.Logf("%d states, %d steps, %d of the states are ends", len(nodes), steps, ends)
	if len(nodes) < 1000 {
		t.Errorf("only %d states: the model does not move", len(nodes))
	}
}

// backwards finds all from which one of the good can be reached.
func backwards(n int, edges [][2]int32, good []int32) []bool {
	first := make([]int32, n+1)
	for _, e := range edges {
		first[e[0]+1]++
	}
	for i := range n {
		first[i+1] += first[i]
	}
	from := make([]int32, len(edges))
	at := append([]int32(nil), first...)
	for _, e := range edges {
		from[at[e[0]]] = e[1]
		at[e[0]]++
	}
	reached := make([]bool, n)
	for len(good) > 0 {
		id := good[len(good)-1]
		good = good[:len(good)-1]
		if !reached[id] {
			reached[id] = true
			good = append(good, from[first[id]:first[id+1]]...)
		}
	}
	return reached
}

// path names the steps that led to a state, by taking them again.
func (w *bounds) path(nodes []visited, id int32) []string {
	var choices []uint16
	for ; nodes[id].parent >= 0; id = nodes[id].parent {
		choices = append(choices, nodes[id].step)
	}
	var names []string
	s := *w.start()
	for i := len(choices) - 1; i >= 0; i-- {
		step := w.nth(&s, int(choices[i]))
		names = append(names, step.name)
		s = step.to
	}
	return names
}

func (w *bounds) replay(nodes []visited, id int32) modelState {
	if nodes[id].parent < 0 {
		return *w.start()
	}
	s := w.replay(nodes, nodes[id].parent)
	return w.nth(&s, int(nodes[id].step)).to
}

func (w *bounds) nth(s *modelState, n int) (step modelStep) {
	w.steps(s, func(fault bool, to *modelState, name func() string) {
		if n == 0 {
			step = modelStep{name(), fault, *to}
		}
		n--
	})
	return step
}
