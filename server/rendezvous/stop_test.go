package rendezvous

import (
	"sync"
	"testing"
)

func TestManyMayStopAServerAtOnce(t *testing.T) {
	t.Parallel()
	for range 50_000 {
		s := &Server{drained: make(chan struct{})}
		var all sync.WaitGroup
		start := make(chan struct{})
		for range 8 {
			all.Go(func() {
				<-start
				s.stop()
			})
		}
		close(start)
		all.Wait()
		<-s.drained
	}
}
