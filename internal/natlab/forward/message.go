package forward

import "time"

// Shape is what happens to the frames of one pair, in each direction.
type Shape struct {
	// Delay is added to each frame.
	Delay time.Duration
	// Jitter adds an even random share of itself. Frames keep their order.
	Jitter time.Duration
	// Loss is the share of frames that are lost, from 0 to 1.
	Loss float64
	// Reorder is the share of frames that are held back for ReorderBy longer.
	Reorder   float64
	ReorderBy time.Duration
	// Queue is how many frames can be under way in one direction. More are dropped.
	Queue int
	// Seed begins the pair's random choices.
	Seed uint64
}

// Stats are the counts of one direction of a pair.
type Stats struct {
	// Forwarded frames were sent on.
	Forwarded uint64
	// Lost frames were lost on purpose.
	Lost uint64
	// Held frames were held back to be overtaken.
	Held uint64
	// Overflowed frames did not fit the queue, the ring or the frame size, or could not be sent.
	Overflowed uint64
	// Late frames were sent more than 0.3 ms after they were due.
	Late uint64
	// MaxLateness is the longest that a frame was sent after it was due.
	MaxLateness time.Duration
}

// request is one command to the forwarder, a JSON object on a line of its own.
type request struct {
	Do    string // "add", "shape", "remove", "stats"
	Pair  int
	A, B  string // names of links, for "add"
	MTU   int    // for "add"
	Shape Shape  // for "add" and "shape"
}

// reply answers a request.
type reply struct {
	Error string
	Stats [2]Stats // from A to B, and back
}
