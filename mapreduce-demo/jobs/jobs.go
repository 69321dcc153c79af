// Package jobs lists the jobs that the worker can run.
package jobs

import (
	"fmt"
	"strings"

	"github.com/bradawl/bradawl/mapreduce-demo/jobs/wordcount"
	"github.com/bradawl/bradawl/mapreduce-demo/mapreduce"
)

// all returns every job that ships with the demo.
func all() []mapreduce.Runner {
	return []mapreduce.Runner{wordcount.Job()}
}

// Lookup finds a job by its name. The error lists the names there are.
func Lookup(name string) (mapreduce.Runner, error) {
	var names []string
	for _, job := range all() {
		if job.JobName() == name {
			return job, nil
		}
		names = append(names, job.JobName())
	}
	return nil, fmt.Errorf("no job is called %q; there are: %s", name, strings.Join(names, ", "))
}
