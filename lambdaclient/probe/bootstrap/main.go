// Command bootstrap is the probe as a Lambda function of runtime provided.al2023; see package probe.
package main

import (
	"github.com/bradawl/bradawl/lambdaclient"
	"github.com/bradawl/bradawl/lambdaclient/probe"
)

func main() {
	lambdaclient.Start(new(probe.Prober).Handle)
}
