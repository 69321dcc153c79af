package rendezvous

import (
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/bradawl/bradawl/protocol/pb"
)

// outbox holds the messages that wait to be written to one peer, bounded in bytes.
type outbox struct {
	max int

	mu     sync.Mutex
	queue  []*pb.ServerMessage
	bytes  int
	closed bool
	ready  chan struct{} // has one element while the queue may hold something
}

func newOutbox(maxBytes int) *outbox {
	return &outbox{max: maxBytes, ready: make(chan struct{}, 1)}
}

// put appends a message. False: the bound is reached, the message is lost and
// the peer must be dropped. After close it does nothing.
func (o *outbox) put(m *pb.ServerMessage) bool {
	size := proto.Size(m)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return true
	}
	if o.bytes+size > o.max {
		return false
	}
	o.queue = append(o.queue, m)
	o.bytes += size
	select {
	case o.ready <- struct{}{}:
	default:
	}
	return true
}

// take empties the queue.
func (o *outbox) take() []*pb.ServerMessage {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := o.queue
	o.queue, o.bytes = nil, 0
	return out
}

func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed, o.queue, o.bytes = true, nil, 0
}
