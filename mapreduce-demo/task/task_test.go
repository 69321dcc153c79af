package task

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/bradawl/bradawl/lambdaclient/exchange"
	"github.com/bradawl/bradawl/mapreduce-demo/input"
)

func good() Payload {
	return Payload{
		ID: ID{Kind: Map, Index: 1, Attempt: 2}, Job: "wordcount", Run: "r", Mappers: 2, Reducers: 1,
		Rendezvous: "bradawl://TOKEN@host:1", Bucket: "b", Mode: exchange.Direct,
		Split: input.Split{Ranges: []input.Range{{Key: "k", Length: 3}}, Ends: []int64{3}},
	}
}

func TestPayloadSurvivesJSON(t *testing.T) {
	want := good()
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Payload
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if again, _ := json.Marshal(got); !bytes.Equal(text, again) || got.Rendezvous != want.Rendezvous {
		t.Errorf("%s came back as %s", text, again)
	}
}

func TestTheConnectionStringIsNeverPrinted(t *testing.T) {
	p := good()
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("payload", "url", p.Rendezvous)
	printed := fmt.Sprintf("%v %+v %#v %s %q %x", p, p, p, p.Rendezvous, p.Rendezvous, p.Rendezvous) + fmt.Sprint(p.Rendezvous) + log.String()
	if strings.Contains(printed, "TOKEN") || strings.Contains(printed, fmt.Sprintf("%x", "TOKEN")) {
		t.Errorf("the secret is in %s", printed)
	}
}

func TestSenselessPayloadsAreRefused(t *testing.T) {
	ok := good()
	if err := ok.check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Payload){
		"kind":       func(p *Payload) { p.Kind = "sort" },
		"run":        func(p *Payload) { p.Run = "" },
		"bucket":     func(p *Payload) { p.Bucket = "" },
		"reducers":   func(p *Payload) { p.Reducers = 0 },
		"index":      func(p *Payload) { p.Index = 2 },
		"negative":   func(p *Payload) { p.Index = -1 },
		"rendezvous": func(p *Payload) { p.Rendezvous = "" },
	} {
		p := good()
		spoil(&p)
		if err := p.check(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestEventsComeBackFromTheLog(t *testing.T) {
	want := Event{ID: ID{Kind: Reduce, Index: 3, Attempt: 1}, Run: "r", At: Midway, Held: true, Note: "line\nbreak"}
	line := want.line()
	if strings.Contains(line, "\n") {
		t.Fatalf("%q is more than one line", line)
	}
	if got, ok := ParseEvent(line); !ok || got != want {
		t.Errorf("%q came back as %+v, %v", line, got, ok)
	}
	for _, other := range []string{"", "START RequestId: x", eventMark, eventMark + "{", "x" + line} {
		if e, ok := ParseEvent(other); ok {
			t.Errorf("%q is the event %+v", other, e)
		}
	}
}

func TestSpoolGivesBackWhatWasWritten(t *testing.T) {
	for _, limit := range []int{1, 10, 1000} {
		s := &spool{limit: limit}
		var want bytes.Buffer
		for i := range 50 {
			p := []byte(fmt.Sprintf("line %d\n", i))
			want.Write(p)
			if n, err := s.Write(p); n != len(p) || err != nil {
				t.Fatal(n, err)
			}
		}
		for range 2 {
			r, err := s.reader()
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, want.Bytes()) || s.size != int64(want.Len()) {
				t.Errorf("limit %d: %d bytes, %v; want %d", limit, len(got), err, want.Len())
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
