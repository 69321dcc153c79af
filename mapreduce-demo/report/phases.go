package report

import (
	"time"

	"github.com/bradawl/bradawl/mapreduce-demo/driver"
	"github.com/bradawl/bradawl/mapreduce-demo/task"
)

// phases gathers how long the tasks of a run spent on what.
type phases struct {
	names []string
	times map[string][]time.Duration
}

func newPhases() *phases {
	return &phases{
		names: []string{"start", "sign-in", "punch", "read", "map", "wait", "transfer", "reduce", "commit", "serve"},
		times: map[string][]time.Duration{},
	}
}

func (p *phases) one(name string, d time.Duration) {
	if d > 0 {
		p.times[name] = append(p.times[name], d)
	}
}

func (p *phases) add(a driver.Attempt) {
	r := a.Report
	// What the invocation took beside the handler: the way there and back, and the environment's start.
	p.one("start", a.Wall-r.Total)
	p.one("sign-in", r.Phases.SignIn)
	p.one("punch", r.Phases.Punch)
	p.one("read", r.Phases.Read)
	p.one("map", r.Phases.Map)
	p.one("wait", r.Phases.Wait)
	p.one("transfer", r.Phases.Transfer)
	p.one("reduce", r.Phases.Reduce)
	p.one("commit", r.Phases.Commit)
	if r.Kind == task.Map {
		p.one("serve", r.Phases.Serve)
	}
}

func (p *phases) list() []Phase {
	var list []Phase
	for _, name := range p.names {
		if len(p.times[name]) > 0 {
			list = append(list, Phase{Name: name, Spread: spread(p.times[name])})
		}
	}
	return list
}
