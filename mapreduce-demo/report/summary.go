package report

import (
	"slices"
	"time"

	"github.com/bradawl/bradawl/internal/s3lab"
	"github.com/bradawl/bradawl/lambdaclient/exchange"
	"github.com/bradawl/bradawl/lambdaclient/price"
	"github.com/bradawl/bradawl/mapreduce-demo/cost"
	"github.com/bradawl/bradawl/mapreduce-demo/driver"
	"github.com/bradawl/bradawl/mapreduce-demo/store"
	"github.com/bradawl/bradawl/mapreduce-demo/task"
)

// MS is a duration in milliseconds, as it stands in JSON.
type MS float64

func ms(d time.Duration) MS { return MS(d.Seconds() * 1000) }

// Spread describes a set of durations. It is zero for an empty set.
type Spread struct {
	N   int `json:"n"`
	P50 MS  `json:"p50_ms"`
	P99 MS  `json:"p99_ms"`
	Max MS  `json:"max_ms"`
}

// spread takes the nearest rank.
func spread(list []time.Duration) Spread {
	if len(list) == 0 {
		return Spread{}
	}
	list = slices.Sorted(slices.Values(list))
	rank := func(percent int) MS { return ms(list[(len(list)*percent+99)/100-1]) }
	return Spread{N: len(list), P50: rank(50), P99: rank(99), Max: ms(list[len(list)-1])}
}

// Links are the links that reducers had to mappers.
type Links struct {
	Wanted  int            `json:"wanted"`            // pairs of mapper and reducer
	Direct  int            `json:"direct"`            // pairs that had a direct link
	ByPath  map[string]int `json:"by_path,omitempty"` // by the type of the peer's address, as RFC 8445 says it
	Failed  map[string]int `json:"failed,omitempty"`  // by reason
	Remade  int            `json:"remade,omitempty"`  // links made anew after a break
	Connect Spread         `json:"connect"`           // how fast they came up
}

// Phase is how long tasks spent on something.
type Phase struct {
	Name string `json:"name"`
	Spread
}

// Traffic is requests and bytes.
type Traffic struct {
	Requests int64 `json:"requests"`
	Bytes    int64 `json:"bytes"`
}

func (t *Traffic) add(requests, bytes int64) {
	t.Requests += requests
	t.Bytes += bytes
}

// Paths are requests and bytes by what they were for.
type Paths struct {
	Direct    Traffic `json:"direct"`     // partitions over links
	ShuffleS3 Traffic `json:"shuffle_s3"` // partitions and commit records through S3
	Input     Traffic `json:"input"`      // reading the packed input
	Output    Traffic `json:"output"`     // committing outputs
	Control   Traffic `json:"control"`    // looking for markers and parts
}

// S3Check holds what the run's parts counted against what the server counted.
type S3Check struct {
	Counted map[string]int64 `json:"counted"` // requests by operation, by the driver and all tasks that answered
	Server  map[string]int64 `json:"server"`  // by the server
	Equal   bool             `json:"equal"`
}

// Summary is one run.
type Summary struct {
	Mode     exchange.Mode `json:"mode"`
	Wall     MS            `json:"wall_ms"`
	Mappers  int           `json:"mappers"`
	Reducers int           `json:"reducers"`
	Attempts int           `json:"attempts"`
	Failed   int           `json:"failed_attempts"`
	Links    Links         `json:"links"`
	Phases   []Phase       `json:"phases"`
	Paths    Paths         `json:"paths"`
	S3       S3Check       `json:"s3"`
	Usage    cost.Usage    `json:"usage"`
	Bill     cost.Bill     `json:"bill"`
	Emitted  int64         `json:"emitted"` // pairs by the mappers: words, for the word count
	Keys     int64         `json:"keys"`    // distinct keys
	// Ladder counts the partitions that reducers read, by the path of their last byte.
	Ladder map[exchange.Path]int `json:"ladder,omitempty"`
	// Resumed are partitions that broke off and went on; Synced says why mappers wrote to S3.
	Resumed int                        `json:"resumed,omitempty"`
	Synced  map[exchange.SyncCause]int `json:"synced,omitempty"`
	Notes   []string                   `json:"notes,omitempty"`
	// Tasks are all attempts, with their own reports.
	Tasks []driver.Attempt `json:"tasks"`
}

// Summarize works out a run's summary. own is what the driver itself asked of S3
// during the run, server what the server counted in that time.
func Summarize(result *driver.Result, prices price.Rates, own store.Usage, server s3lab.Stats) Summary {
	s := Summary{
		Mode: result.Mode, Wall: ms(result.Wall), Mappers: result.Mappers, Reducers: result.Reducers,
		Attempts: len(result.Attempts), Notes: result.Notes, Tasks: result.Attempts,
		Links:  Links{Wanted: result.Mappers * result.Reducers, ByPath: map[string]int{}, Failed: map[string]int{}},
		Ladder: map[exchange.Path]int{}, Synced: map[exchange.SyncCause]int{},
	}
	if result.Mode == exchange.S3 {
		s.Links.Wanted = 0
	}
	counted := store.Usage{}
	counted.Add(own)
	for _, c := range own {
		s.control(c)
	}
	phases := newPhases()
	linked := map[[2]int]bool{}
	var connects []time.Duration
	for _, a := range result.Attempts {
		if a.Error != "" {
			s.Failed++
		}
		s.Usage.Invocations++
		s.Usage.GBSeconds += a.Billing.Billed.Seconds() * float64(a.Billing.MemoryMB) / 1024
		if a.Report == nil {
			continue
		}
		phases.add(a)
		counted.Add(a.Report.S3)
		for op, c := range a.Report.S3 {
			switch op {
			case "GetObject":
				s.Paths.Input.add(c.Requests, c.Bytes)
			case "PutObject":
				s.Paths.Output.add(c.Requests, c.Bytes)
			default:
				s.control(c)
			}
		}
		if m := a.Report.Map; m != nil && a.Error == "" {
			s.Emitted += m.Emitted
		}
		if r := a.Report.Reduce; r != nil && a.Error == "" {
			s.Keys += r.Keys
		}
		if p := a.Report.Producer; p != nil {
			s.shuffleS3(counted, p.S3)
			if p.Sync != exchange.SyncNone {
				s.Synced[p.Sync]++
			}
		}
		if c := a.Report.Consumer; c != nil {
			s.shuffleS3(counted, c.S3)
			s.Paths.Direct.add(c.Direct.Requests, c.Direct.Bytes)
			connects = append(connects, s.links(a.Index, c.Links, linked)...)
			for _, p := range c.Partitions {
				if p.Done {
					s.Ladder[p.Source.Path]++
				}
				if p.Breaks > 0 {
					s.Resumed++
				}
			}
		}
	}
	s.Links.Direct = len(linked)
	s.Links.Connect = spread(connects)
	s.Phases = phases.list()
	s.S3 = check(counted, server)
	s.Usage.DirectBytes = s.Paths.Direct.Bytes
	if result.Mode != exchange.S3 {
		s.Usage.Hours = result.Wall.Hours()
	}
	for op, n := range s.S3.Server {
		switch op {
		case "GetObject", "HeadObject":
			s.Usage.Gets += n
		case "DeleteObject":
		default:
			s.Usage.Puts += n
		}
	}
	for _, op := range server.Operations {
		s.Usage.Uploaded += int64(op.BytesIn)
		s.Usage.Retrieved += int64(op.BytesOut)
	}
	s.Bill = cost.Of(prices, s.Usage)
	return s
}

func (s *Summary) control(c store.Count) { s.Paths.Control.add(c.Requests, c.Bytes) }

// shuffleS3 books what an exchange asked of S3.
func (s *Summary) shuffleS3(counted store.Usage, u exchange.S3Usage) {
	for op, c := range map[string]exchange.Count{
		"PutObject": u.Put, "GetObject": u.Get, "HeadObject": u.Head, "ListObjectsV2": u.List, "Other": u.Other,
	} {
		if c.Requests > 0 {
			s.Paths.ShuffleS3.add(c.Requests, c.Bytes)
			counted.Add(store.Usage{op: {Requests: c.Requests, Bytes: c.Bytes}})
		}
	}
}

// links books the links of one reducer and returns how long the first ones took.
func (s *Summary) links(reducer int, links []exchange.LinkResult, linked map[[2]int]bool) []time.Duration {
	var connects []time.Duration
	for _, l := range links {
		if l.Failure != "" {
			s.Links.Failed[l.Failure]++
			continue
		}
		if l.Again {
			s.Links.Remade++
			continue
		}
		s.Links.ByPath[l.Path]++
		connects = append(connects, l.Connect)
		if mapper, _, ok := exchange.ParsePeerName(string(task.Map), l.Peer); ok {
			linked[[2]int{mapper, reducer}] = true
		}
	}
	return connects
}

func check(counted store.Usage, server s3lab.Stats) S3Check {
	c := S3Check{Counted: map[string]int64{}, Server: map[string]int64{}, Equal: true}
	for op, n := range counted {
		if n.Requests > 0 {
			c.Counted[op] = n.Requests
		}
	}
	for op, n := range server.Operations {
		c.Server[op] = int64(n.Requests)
		c.Equal = c.Equal && c.Counted[op] == c.Server[op]
	}
	c.Equal = c.Equal && len(c.Counted) == len(c.Server)
	return c
}
