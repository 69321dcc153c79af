// Worker is the Lambda function of the MapReduce: build it as bootstrap for the
// provided.al2023 runtime.
//
//	GOOS=linux GOARCH=arm64 go build -tags lambda.norpc -o bootstrap ./mapreduce-demo/worker
package main

import "github.com/bradawl/bradawl/mapreduce-demo/task"

func main() { task.Main() }
