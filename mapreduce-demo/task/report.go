package task

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/bradawl/bradawl/lambdaclient/exchange"
	"github.com/bradawl/bradawl/mapreduce-demo/mapreduce"
	"github.com/bradawl/bradawl/mapreduce-demo/store"
)

// Report is what a task answers. A task that failed in a way it understands
// answers too, with Failure set.
type Report struct {
	ID
	Cold     bool          `json:"cold"` // the environment's first invocation
	Phases   Phases        `json:"phases"`
	Total    time.Duration `json:"total_ns"` // the handler's whole time
	Restarts int           `json:"restarts,omitempty"`

	Map      *mapreduce.MapStats      `json:"map,omitempty"`
	Reduce   *mapreduce.ReduceStats   `json:"reduce,omitempty"`
	Producer *exchange.ProducerReport `json:"producer,omitempty"`
	Consumer *exchange.ConsumerReport `json:"consumer,omitempty"`
	// S3 counts the task's own requests: input, output and markers. Those of
	// the shuffle stand in Producer and Consumer.
	S3 store.Usage `json:"s3,omitempty"`
	// Output is a reduce task's part.
	Output *Output `json:"output,omitempty"`

	Failure *Failure `json:"failure,omitempty"`
}

// Phases are where a task's time went. Punch overlaps with the others.
type Phases struct {
	SignIn time.Duration `json:"sign_in_ns,omitempty"`
	// Punch is from joining the shuffle until the last link was up.
	Punch time.Duration `json:"punch_ns,omitempty"`
	// Read is a map task's wait for its input.
	Read time.Duration `json:"read_ns,omitempty"`
	// Map is the rest of a map task's work, until its partitions are complete.
	Map time.Duration `json:"map_ns,omitempty"`
	// Wait is how long a reduce task waited until all producers had answered.
	Wait time.Duration `json:"wait_ns,omitempty"`
	// Transfer is how long a reduce task waited for bytes after that, or how
	// long a map task took to make its partitions durable.
	Transfer time.Duration `json:"transfer_ns,omitempty"`
	Reduce   time.Duration `json:"reduce_ns,omitempty"`
	Commit   time.Duration `json:"commit_ns,omitempty"` // acknowledging included
	// Serve is how long a map task stayed for its consumers.
	Serve time.Duration `json:"serve_ns,omitempty"`
}

// Output is one committed part.
type Output struct {
	Key   string `json:"key"`
	Bytes int64  `json:"bytes"`
	// Written is false if an earlier attempt had committed the part already.
	Written bool `json:"written"`
}

// Failure is why a task failed.
type Failure struct {
	Message string `json:"message"`
	// Lost is set if a producer has to run again before the task can succeed.
	Lost *Lost `json:"lost,omitempty"`
	// Final is set if another attempt cannot help.
	Final bool `json:"final,omitempty"`
}

// Lost names a producer whose partition nothing can deliver any more.
type Lost struct {
	Producer int   `json:"producer"`
	Attempts []int `json:"attempts"` // those that are known to be of no use
}

// Event is what a task tells while it runs, as a line of its log.
type Event struct {
	ID
	Run  string `json:"run"`
	At   Point  `json:"at"`
	Held bool   `json:"held,omitempty"` // it waits there to be released
	// Note tells about something unusual that happened.
	Note string `json:"note,omitempty"`
}

// eventMark begins the lines that are events.
const eventMark = "mapreduce-event "

// ParseEvent reads a line of a task's log; ok is false if it is no event.
func ParseEvent(line string) (e Event, ok bool) {
	rest, ok := strings.CutPrefix(line, eventMark)
	if !ok || json.Unmarshal([]byte(rest), &e) != nil {
		return Event{}, false
	}
	return e, true
}

func (e Event) line() string {
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Sprintf("event of %s cannot be written: %v", e.ID, err)
	}
	return eventMark + string(b)
}
