// Worker is the Lambda function of the MapReduce: build it as bootstrap for the
// provided.al2023 runtime.
//
//	GOOS=linux GOARCH=arm64 go build -tags lambda.norpc -o bootstrap ./mapreduce-demo/worker
package main

import (
	"fmt"
	"os"

	"github.com/bradawl/bradawl/internal/buildinfo"
	"github.com/bradawl/bradawl/mapreduce-demo/task"
)

func main() {
	if buildinfo.Asked(os.Args[1:]) {
		fmt.Println("bradawl-worker version", buildinfo.String())
		return
	}
	task.Main()
}
