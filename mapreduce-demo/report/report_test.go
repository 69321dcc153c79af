package report

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bradawl/bradawl/internal/s3lab"
	"github.com/bradawl/bradawl/lambdaclient/exchange"
	"github.com/bradawl/bradawl/lambdaclient/price"
	"github.com/bradawl/bradawl/mapreduce-demo/driver"
	"github.com/bradawl/bradawl/mapreduce-demo/mapreduce"
	"github.com/bradawl/bradawl/mapreduce-demo/store"
	"github.com/bradawl/bradawl/mapreduce-demo/task"
)

const second = time.Second

// example is a run of two mappers and one reducer, in which a mapper was killed
// and one partition was resumed through S3.
func example() *driver.Result {
	billing := driver.Billing{Billed: 2 * second, MemoryMB: 512}
	return &driver.Result{
		Run: "r", Mode: exchange.Auto, Wall: 4 * second, Mappers: 2, Reducers: 1,
		Notes: []string{"map-1-0: killed; runs again as attempt 1"},
		Attempts: []driver.Attempt{
			{ID: task.ID{Kind: task.Map, Index: 1}, Error: "killed", Billing: billing},
			{
				ID: task.ID{Kind: task.Map, Index: 0}, Wall: 3 * second, Billing: billing,
				Report: &task.Report{
					ID: task.ID{Kind: task.Map}, Total: 2 * second,
					Phases:   task.Phases{SignIn: 10 * time.Millisecond, Read: second, Map: second / 2},
					Map:      &mapreduce.MapStats{Emitted: 70},
					Producer: &exchange.ProducerReport{S3: exchange.S3Usage{Put: exchange.Count{Requests: 2, Bytes: 50}}, Sync: exchange.SyncTimeToSync},
					S3:       store.Usage{"GetObject": {Requests: 3, Bytes: 300}},
				},
			},
			{
				ID: task.ID{Kind: task.Map, Index: 1, Attempt: 1}, Wall: 3 * second, Billing: billing,
				Report: &task.Report{ID: task.ID{Kind: task.Map, Index: 1, Attempt: 1}, Total: second, Map: &mapreduce.MapStats{Emitted: 30}},
			},
			{
				ID: task.ID{Kind: task.Reduce}, Wall: 4 * second, Billing: billing,
				Report: &task.Report{
					ID: task.ID{Kind: task.Reduce}, Total: 3 * second,
					Reduce: &mapreduce.ReduceStats{Keys: 12},
					Consumer: &exchange.ConsumerReport{
						Direct: exchange.Count{Requests: 2, Bytes: 80},
						S3:     exchange.S3Usage{Get: exchange.Count{Requests: 1, Bytes: 20}},
						Links: []exchange.LinkResult{
							{Peer: "map-0-0", Path: "server_reflexive", Connect: 5 * time.Millisecond},
							{Peer: "map-1-0", Path: "server_reflexive", Connect: 6 * time.Millisecond},
							{Peer: "map-1-1", Path: "peer_reflexive", Connect: 9 * time.Millisecond},
							{Peer: "map-0-0", Path: "server_reflexive", Connect: second, Again: true},
							{Peer: "map-0-1", Failure: "no_inbound"},
						},
						Partitions: []exchange.PartitionReport{
							{Source: exchange.Source{Path: exchange.PathS3}, Breaks: 1, Done: true},
							{Source: exchange.Source{Path: exchange.PathDirect}, Done: true},
						},
					},
					S3: store.Usage{"PutObject": {Requests: 1, Bytes: 40}, "HeadObject": {Requests: 1}},
				},
			},
		},
	}
}

func stats(gets, puts, heads uint64) s3lab.Stats {
	return s3lab.Stats{Operations: map[string]s3lab.Operation{
		"GetObject": {Requests: gets}, "PutObject": {Requests: puts}, "HeadObject": {Requests: heads},
	}}
}

func prices(t *testing.T) price.Rates {
	t.Helper()
	table, err := price.Published()
	if err != nil {
		t.Fatal(err)
	}
	r, err := table.Rates(price.Choice{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSummary(t *testing.T) {
	s := Summarize(example(), prices(t), store.Usage{"PutObject": {Requests: 1}}, stats(4, 4, 1))
	if s.Attempts != 4 || s.Failed != 1 || s.Emitted != 100 || s.Keys != 12 {
		t.Errorf("%d attempts, %d failed, %d pairs, %d keys", s.Attempts, s.Failed, s.Emitted, s.Keys)
	}
	l := s.Links
	if l.Wanted != 2 || l.Direct != 2 || l.ByPath["server_reflexive"] != 2 || l.ByPath["peer_reflexive"] != 1 || l.Failed["no_inbound"] != 1 || l.Remade != 1 {
		t.Errorf("links %+v", l)
	}
	if c := l.Connect; c.N != 3 || c.P50 != 6 || c.P99 != 9 || c.Max != 9 {
		t.Errorf("connect %+v", c)
	}
	want := Paths{
		Direct: Traffic{2, 80}, ShuffleS3: Traffic{3, 70}, Input: Traffic{3, 300},
		Output: Traffic{1, 40}, Control: Traffic{2, 0},
	}
	if s.Paths != want {
		t.Errorf("paths %+v, want %+v", s.Paths, want)
	}
	if !s.S3.Equal {
		t.Errorf("counts %+v do not agree", s.S3)
	}
	if s.Usage.GBSeconds != 4 || s.Usage.Invocations != 4 || s.Usage.Puts != 4 || s.Usage.Gets != 5 || s.Usage.DirectBytes != 80 {
		t.Errorf("usage %+v", s.Usage)
	}
	if s.Ladder[exchange.PathS3] != 1 || s.Resumed != 1 || s.Synced[exchange.SyncTimeToSync] != 1 {
		t.Errorf("ladder %v, %d resumed, synced %v", s.Ladder, s.Resumed, s.Synced)
	}
	for _, ph := range s.Phases {
		if ph.Name == "start" && (ph.N != 3 || ph.Max != 2000) {
			t.Errorf("start %+v", ph)
		}
	}
	if off := Summarize(example(), prices(t), nil, stats(4, 4, 1)); off.S3.Equal {
		t.Error("a request that the driver did not count goes unnoticed")
	}
}

func TestSpreadTakesTheNearestRank(t *testing.T) {
	var list []time.Duration
	for i := 200; i > 0; i-- {
		list = append(list, time.Duration(i)*time.Millisecond)
	}
	if s := spread(list); s.P50 != 100 || s.P99 != 198 || s.Max != 200 || s.N != 200 {
		t.Errorf("%+v", s)
	}
	if s := spread(nil); s != (Spread{}) {
		t.Errorf("%+v for nothing", s)
	}
	if s := spread([]time.Duration{second}); s.P50 != 1000 || s.P99 != 1000 {
		t.Errorf("%+v for one", s)
	}
}

func TestTextSaysWhatHappened(t *testing.T) {
	yes := true
	run := Summarize(example(), prices(t), nil, stats(4, 4, 1))
	d := Document{Runs: []Summary{run, run}, Equal: &yes, Prices: prices(t), Memory: 512, S3Model: "off", Output: "/out", Input: Input{Files: 3, Bytes: 1500}}
	var b bytes.Buffer
	if err := d.Print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"2 of 2 direct (1 peer_reflexive, 2 server_reflexive), up after 6.0 ms p50, 9.0 ms p99",
		"failed: 1 no_inbound", "made anew after a break: 1",
		"map-1-0: killed; runs again as attempt 1", "1 direct, 1 s3; broken off and resumed: 1", "1 time-to-sync",
		"equal, byte for byte", "100 words, 12 of them distinct, from 3 files of 1.5 kB", "/out",
		"The model of S3 (latency, limits, bandwidth) was off.",
		"2026-11-23", "$0.01/GB each way",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, b.String())
		}
	}
	no := false
	d.Equal = &no
	b.Reset()
	if err := d.Print(&b); err != nil || !strings.Contains(b.String(), "OUTPUTS DIFFER") {
		t.Errorf("different outputs: %v\n%s", err, b.String())
	}
}

func TestSavedDocumentIsWholeOrNotThere(t *testing.T) {
	dir := t.TempDir()
	d := Document{Output: "x", Runs: []Summary{Summarize(example(), prices(t), nil, stats(1, 1, 1))}}
	file := filepath.Join(dir, "d.json")
	if err := d.Save(file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var again Document
	if err := json.Unmarshal(text, &again); err != nil || again.Output != "x" || len(again.Runs) != 1 {
		t.Errorf("%+v, %v", again, err)
	}
	if err := d.Save(filepath.Join(dir, "none", "d.json")); err == nil {
		t.Error("saved into a directory that is not there")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("files %v, %v", entries, err)
	}
}
