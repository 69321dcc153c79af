package driver_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/lambdaclient/exchange"
	"github.com/bradawl/bradawl/mapreduce-demo/driver"
	"github.com/bradawl/bradawl/mapreduce-demo/stage"
	"github.com/bradawl/bradawl/mapreduce-demo/task"
)

func TestDirectWhereNoLinkCanBeHadFailsAndSaysWhatToDo(t *testing.T) {
	t.Parallel()
	b := newBenchBehind(t, natlab.Symmetric(), stage.NAT, 2, 1, exchange.Direct, prose(t, 2, 2000, 1000))
	b.cfg.MaxAttempts = 2
	result, err := driver.Run(b.ctx, b.cfg)
	if !errors.Is(err, driver.ErrFailed) || !strings.Contains(err.Error(), "use mode auto or s3") || strings.Contains(err.Error(), "\n") {
		t.Errorf("the job ended with %v, want one line that names the other modes", err)
	}
	if ran := len(attempts(result, task.Map, 0)) + len(attempts(result, task.Map, 1)); ran < 3 {
		t.Errorf("the mappers ran %d times, want one of them to have had another environment", ran)
	}
}

func TestAutoWhereNoLinkCanBeHadGoesThroughS3(t *testing.T) {
	t.Parallel()
	b := newBenchBehind(t, natlab.Symmetric(), stage.NAT, 2, 1, exchange.Auto, prose(t, 2, 2000, 1000))
	b.cfg.Policy.TimeToSync = 0 // write-through
	result := b.finish(b.start())
	for _, p := range attempts(result, task.Reduce, 0)[0].Report.Consumer.Partitions {
		if p.Source.Path != exchange.PathS3 || p.S3 != p.Bytes || p.Direct != 0 {
			t.Errorf("a partition came as %+v, want all of it from S3", p)
		}
	}
}
