package client

import (
	"testing"
	"time"

	"github.com/bradawl/bradawl/protocol"
)

func TestGuessesArePaced(t *testing.T) {
	for name, pauses := range map[string][]time.Duration{
		"even":            {5 * ms},
		"late timers":     {20 * ms, 1 * ms},
		"one long freeze": {5 * ms, 5 * ms, 2 * time.Second, 5 * ms, 5 * ms, 5 * ms, 5 * ms},
	} {
		zero := time.Unix(1000, 0)
		p := pacer{rate: protocol.MaxGuessesPerSecond, began: zero}
		now, total := zero, 0
		var last time.Duration
		for i := 0; total < protocol.MaxGuesses; i++ {
			n := p.due(now)
			if n > guessBurst {
				t.Fatalf("%s: %d packets at once after %v", name, n, last)
			}
			total += n
			if allowed := int(now.Sub(zero)*protocol.MaxGuessesPerSecond/time.Second) + 1; total > allowed {
				t.Fatalf("%s: %d packets in %v, at most %d", name, total, now.Sub(zero), allowed)
			}
			last = pauses[i%len(pauses)]
			now = now.Add(last)
		}
		if name == "even" && now.Sub(zero) > 530*ms {
			t.Errorf("%d packets took %v", total, now.Sub(zero))
		}
	}
}
