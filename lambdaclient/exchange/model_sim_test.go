package exchange

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// simulation is one walk through a model: as random as its seed, and the same
// for the same one.
type simulation struct {
	w     *bounds
	rng   *rand.Rand
	state modelState
	path  []string // only kept if wanted
	keep  bool

	next  modelState // the step that is chosen
	name  func() string
	found int
}

// simulatedModels are larger than what can be explored in full.
func simulatedModels() []bounds {
	difference := [modelAttempts][modelHalves]uint8{{1, 2}, {1, 3}, {4, 5}}
	same := [modelAttempts][modelHalves]uint8{{1, 2}, {1, 2}, {1, 2}}
	big := func(p Policy) bounds {
		return bounds{attempts: modelAttempts, consumers: modelConsumers, policy: p, content: difference, damage: true, barred: true}
	}
	list := []bounds{
		big(Policy{}), big(Policy{TimeToSync: 1, TimeToLive: 2}), big(Policy{TimeToSync: Never, TimeToLive: Never}),
		big(costly(Policy{TimeToSync: Never, TimeToLive: Never, Auto: true})),
		big(costly(Policy{TimeToSync: Never, TimeToLive: 2, CostThreshold: 1e-9})),
	}
	for i := range list {
		if i%2 == 1 {
			list[i].content = same
		}
	}
	return list
}

// pick takes one of the steps of one of the actors, each as likely as the others.
func (m *simulation) pick(faults bool) bool {
	m.found = 0
	keep := func(fault bool, to *modelState, name func() string) {
		if fault && !faults {
			return
		}
		if m.found++; m.rng.IntN(m.found) == 0 {
			m.next, m.name = *to, name
			if fault {
				m.next.faults++
			}
		}
	}
	w, s := m.w, &m.state
	actor := m.rng.IntN(w.attempts + w.consumers*w.attempts + 1)
	switch {
	case actor < w.attempts:
		w.producerSteps(s, actor, keep)
	case actor < w.attempts+w.consumers*w.attempts:
		actor -= w.attempts
		w.consumerSteps(s, actor/w.attempts, actor%w.attempts, keep)
	default:
		w.driverSteps(s, keep)
		if s.record.there && s.damaged == 0 {
			to := *s
			to.damaged |= 1 << s.record.attempt
			keep(true, &to, func() string { return "S3 damages an object" })
		}
	}
	return m.found > 0
}

// run walks: at first faults happen, one in so many steps and so many at most;
// then none do, and an end has to come.
func (m *simulation) run() (steps int, broken string) {
	m.state = *m.w.start()
	faults, oneIn := m.rng.IntN(9), 2+m.rng.IntN(20)
	const idle = 400 // tries, in which each actor had its turn
	for last := 0; last < idle; last++ {
		if !m.pick(int(m.state.faults) < faults && m.rng.IntN(oneIn) == 0) {
			continue
		}
		last = 0
		steps++
		m.state = m.next
		if m.keep {
			m.path = append(m.path, m.name())
		}
		if broken = m.w.broken(&m.state); broken != "" {
			return steps, broken
		}
		if m.state.gaveUp && m.w.attempts > int(m.state.faults) {
			return steps, "the driver gave up, although an attempt was left without a fault"
		}
		if m.w.over(&m.state) && m.rng.IntN(20) == 0 { // late ones may still do harm
			return steps, ""
		}
		if steps > 1<<16 {
			return steps, "no end comes"
		}
	}
	if !m.w.over(&m.state) {
		return steps, "nothing moves any more"
	}
	return steps, ""
}

// simulated is how many steps are simulated.
func simulated() int {
	if testing.Short() || raceDetector {
		return 100_000
	}
	return 3_000_000
}

func TestTheProtocolUnderRandomFaults(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("BRADAWL_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("BRADAWL_SEED: %v", err)
		}
	}
	t.Logf("BRADAWL_SEED=%d", seed)
	var models []*bounds
	for _, w := range simulatedModels() {
		models = append(models, w.prepared())
	}
	start := time.Now()
	steps, walks, faults, lost := 0, uint64(0), 0, 0
	for ; steps < simulated(); walks++ {
		m := &simulation{w: models[walks%uint64(len(models))], rng: rand.New(rand.NewPCG(seed, walks))}
		n, broken := m.run()
		steps += n
		faults += int(m.state.faults)
		if m.state.gaveUp {
			lost++
		}
		if broken != "" {
			again := &simulation{w: m.w, rng: rand.New(rand.NewPCG(seed, walks)), keep: true}
			again.run()
			t.Fatalf("walk %d: %s\n%s\nends in %+v", walks, broken, strings.Join(again.path, "\n"), again.state)
		}
	}
	t.Logf("%d steps in %d walks with %d faults; in %d the driver ran out of attempts; %v", steps, walks, faults, lost, time.Since(start))
	if faults == 0 || lost == int(walks) {
		t.Error("the simulation does not move as it should")
	}
}
