// Command bootstrap is the probe as a Lambda function of runtime provided.al2023; see package probe.
package main

import (
	"fmt"
	"os"

	"github.com/bradawl/bradawl/internal/buildinfo"
	"github.com/bradawl/bradawl/lambdaclient"
	"github.com/bradawl/bradawl/lambdaclient/probe"
)

func main() {
	if buildinfo.Asked(os.Args[1:]) {
		fmt.Println("bradawl-probe version", buildinfo.String())
		return
	}
	lambdaclient.Start(new(probe.Prober).Handle)
}
