package commands_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/bradawl/bradawl/internal/natlab"
)

type perfOutput struct {
	OK            bool
	Path          string
	Streams, Size int
	Up, Down      *struct {
		Bytes   int64
		Seconds float64
		MBs     float64 `json:"mb_s"`
		Mbits   float64 `json:"mbits_s"`
	}
	RTTMS       float64 `json:"rtt_ms"`
	PacketsSent uint64  `json:"packets_sent"`
	Reason      string
	Error       string
}

func TestPerfMeasuresEachDirection(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	l := s.start(s.behind("b", natlab.PortRestricted()), "listen", "--name", "b")
	l.err.until(t, "listening as b")
	host := s.behind("a", natlab.PortRestricted())
	for _, tc := range []struct {
		name     string
		args     []string
		up, down bool
		streams  int
		size     int
	}{
		{"up", nil, true, false, 1, 128 << 10},
		{"down", []string{"--reverse", "-P", "4", "--size", "1000"}, false, true, 4, 1000},
		{"both", []string{"--both", "-P", "2"}, true, true, 2, 128 << 10},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := s.start(host, append([]string{"perf", "b", "--name", "a", "--json", "-t", "300ms"}, tc.args...)...)
			if code := p.wait(); code != 0 {
				t.Fatalf("exit %d, stderr %q, stdout %q", code, p.err.all(), p.out.all())
			}
			var r perfOutput
			must(t, json.Unmarshal([]byte(p.out.all()), &r))
			if !r.OK || r.Path != "server_reflexive" || r.Streams != tc.streams || r.Size != tc.size || r.RTTMS <= 0 || r.PacketsSent == 0 {
				t.Errorf("unexpected: %s", p.out.all())
			}
			if (r.Up != nil) != tc.up || (r.Down != nil) != tc.down {
				t.Fatalf("directions: %s", p.out.all())
			}
			// Who receives takes the time, from the header to the end, so it may be a little less than was asked for.
			if tc.up && (r.Up.Bytes < 100_000 || r.Up.Seconds < 0.1 || r.Up.Mbits < 1) {
				t.Errorf("up: %+v", *r.Up)
			}
			if tc.down && (r.Down.Bytes < 100_000 || r.Down.Seconds < 0.1 || r.Down.Mbits < 1) {
				t.Errorf("down: %+v", *r.Down)
			}
		})
	}
	p := s.start(host, "perf", "b", "--name", "a", "-t", "200ms")
	if code := p.wait(); code != 0 || !strings.Contains(p.out.all(), "MB/s") || p.err.all() != "" {
		t.Errorf("exit %d, stdout %q, stderr %q", code, p.out.all(), p.err.all())
	}
	// who answers perf still echoes
	ping := s.start(host, "ping", "b", "--name", "a", "-c", "2")
	if code := ping.wait(); code != 0 || strings.Contains(ping.out.all(), "does not echo") {
		t.Errorf("ping: exit %d, %q", code, ping.out.all())
	}
}

func TestPerfSaysWhyThereIsNoResult(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	host := s.behind("a", natlab.PortRestricted())
	p := s.start(host, "perf", "nobody", "--json")
	if code := p.wait(); code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	var r perfOutput
	must(t, json.Unmarshal([]byte(p.out.all()), &r))
	if r.OK || r.Reason != "no_peer" || r.Error == "" {
		t.Errorf("got %s", p.out.all())
	}
	for _, args := range [][]string{
		{"-P", "0"}, {"-P", "1000"}, {"--size", "0"}, {"--size", "1048577"}, {"-t", "0s"}, {"-t", "2h"}, {"--both", "--reverse"},
	} {
		p := s.start(host, append([]string{"perf", "b"}, args...)...)
		if code := p.wait(); code != 2 {
			t.Errorf("%v: exit %d, %s", args, code, p.err.all())
		}
	}
}
