package task

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	"github.com/bradawl/bradawl/lambdaclient/exchange"
	"github.com/bradawl/bradawl/mapreduce-demo/input"
)

// Kind is what a task does.
type Kind string

// The kinds of tasks. They are also the roles with which workers sign in.
const (
	Map    Kind = "map"
	Reduce Kind = "reduce"
)

// ID names one attempt of a task.
type ID struct {
	Kind    Kind `json:"kind"`
	Index   int  `json:"index"`
	Attempt int  `json:"attempt"` // from 0
}

// String gives the name with which the attempt signs in, such as map-3-0.
func (id ID) String() string { return fmt.Sprintf("%s-%d-%d", id.Kind, id.Index, id.Attempt) }

// Secret is a string that is not printed.
type Secret string

const redacted = "redacted"

// String hides the secret.
func (Secret) String() string { return redacted }

// GoString hides the secret.
func (Secret) GoString() string { return redacted }

// Format hides the secret from every verb.
func (Secret) Format(s fmt.State, _ rune) { io.WriteString(s, redacted) }

// LogValue hides the secret from structured logs.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// Payload is the event that the driver invokes the function with.
type Payload struct {
	ID
	// Job is the name of the job, Run the id of this run of it: the group in
	// which its workers meet, and the start of its keys on S3.
	Job string `json:"job"`
	Run string `json:"run"`
	// Mappers and Reducers are how many tasks of each kind the run has.
	Mappers  int `json:"mappers"`
	Reducers int `json:"reducers"`
	// Rendezvous is the connection string; not needed in mode S3.
	Rendezvous Secret `json:"rendezvous,omitempty"`
	// Bucket holds everything of the run.
	Bucket string          `json:"bucket"`
	Mode   exchange.Mode   `json:"mode"`
	Policy exchange.Policy `json:"policy"`
	// Split is a map task's input.
	Split input.Split `json:"split,omitzero"`
	// Replaces are attempts of the same map task that are known to be lost.
	Replaces []int `json:"replaces,omitempty"`
	// Hold are the points at which the task waits for the object that
	// ReleaseKey names. For experiments that interfere at an exact moment.
	Hold []Point `json:"hold,omitempty"`
}

// Point is a moment in the life of a task.
type Point string

// The points that a task passes.
const (
	Started   Point = "started"   // the invocation has begun
	Joined    Point = "joined"    // the task is part of the shuffle
	Mapped    Point = "mapped"    // a map task's partitions are complete
	Served    Point = "served"    // a map task's partitions are served from now on
	Opening   Point = "opening"   // a reduce task is about to ask for partitions
	Opened    Point = "opened"    // a reduce task has answers from all producers
	Midway    Point = "midway"    // a reduce task has written its first output
	Reduced   Point = "reduced"   // a reduce task's output is complete
	Committed Point = "committed" // a reduce task's output is on S3
)

func (p *Payload) check() error {
	var why string
	switch {
	case p.Kind != Map && p.Kind != Reduce:
		why = fmt.Sprintf("unknown kind of task %q", p.Kind)
	case p.Run == "" || p.Job == "" || p.Bucket == "":
		why = "run, job and bucket are needed"
	case p.Mappers < 1 || p.Reducers < 1:
		why = "at least one mapper and one reducer are needed"
	case p.Index < 0 || p.Kind == Map && p.Index >= p.Mappers || p.Kind == Reduce && p.Index >= p.Reducers:
		why = fmt.Sprintf("no task has the index %d", p.Index)
	case p.Mode != exchange.S3 && p.Rendezvous == "":
		why = "a connection string is needed"
	default:
		return nil
	}
	return fmt.Errorf("%w: %s", ErrPayload, why)
}

// ErrPayload says that the function was invoked with an event it cannot use.
var ErrPayload = errors.New("bad payload")

func (p *Payload) holds(at Point) bool { return slices.Contains(p.Hold, at) }

// The run's keys on S3, below its id.

// PartKey is where a reducer's output goes.
func PartKey(run string, reducer int) string { return run + "/out/" + PartName(reducer) }

// PartName is the last element of a part's key, and its name in a directory.
func PartName(reducer int) string { return fmt.Sprintf("part-%05d", reducer) }

// SuccessName is the name of the empty object that says that all parts are there.
const SuccessName = "_SUCCESS"

// SuccessKey is the marker's key.
func SuccessKey(run string) string { return run + "/out/" + SuccessName }

// ReleaseKey is the object that lets a task go on from a point at which it holds.
func ReleaseKey(run string, kind Kind, index int, at Point) string {
	return fmt.Sprintf("%s/release/%s-%d-%s", run, kind, index, at)
}
