package cli

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/bradawl/bradawl/internal/natlab"
	"github.com/bradawl/bradawl/mapreduce-demo/outside"
	"github.com/bradawl/bradawl/mapreduce-demo/stage"
)

// wayOut is the variable that names the socket by which the program in the lab
// reaches the network outside.
const wayOut = "MAPREDUCE_DEMO_OUTSIDE"

// venue is where the program runs, as far as networks go.
type venue struct {
	network stage.Network
	why     string // why it is not behind NATs, if that was for the program to choose
	wayOut  string // the socket that leads out of the lab, or empty
}

// enter decides on the network. For NATs it does not return the first time, but
// runs the program again inside of a lab; if remote is set, what was left
// outside serves a way out.
func enter(wish string, remote bool) (venue, error) {
	if wish == string(stage.Loopback) {
		return venue{network: stage.Loopback}, nil
	}
	var server *outside.Server
	if remote && os.Getenv(wayOut) == "" {
		var err error
		if server, err = outside.Serve(); err != nil {
			return venue{}, err
		}
		if err := os.Setenv(wayOut, server.Path()); err != nil {
			return venue{}, fmt.Errorf("make a way out of the lab: %w", err)
		}
	}
	err := natlab.Enter()
	if err == nil {
		return venue{network: stage.NAT, wayOut: os.Getenv(wayOut)}, nil
	}
	if server != nil {
		_ = os.Unsetenv(wayOut)
		_ = server.Close() // nobody has used it
	}
	if wish == string(stage.NAT) {
		return venue{}, fmt.Errorf("--network nat: %w", err)
	}
	return venue{network: stage.Loopback, why: err.Error()}, nil
}

// leave takes the socket away: the one that serves it ends without a chance to.
func (v venue) leave() {
	if v.wayOut != "" {
		_ = os.RemoveAll(filepath.Dir(v.wayOut))
	}
}
