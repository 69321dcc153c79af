// Mapreduce-demo counts words with functions that stand behind NATs and talk to
// one another directly, and shows what that buys over passing the data through S3.
package main

import (
	"os"

	"github.com/bradawl/bradawl/internal/s3lab"
	"github.com/bradawl/bradawl/mapreduce-demo/cli"
)

func main() {
	s3lab.Child() // does not return in the process that is the S3 server
	os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
}
