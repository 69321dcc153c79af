// Package lambdalab is an AWS Lambda service for one machine: the Invoke API
// outside, the Runtime API and the Extensions API inside, both over HTTP, and
// every execution environment a process of the function's program in a place
// of its own, for example in a host behind a NAT of its own.
//
// Programs written with aws-lambda-go run in it unmodified, and the SDK's
// lambda client invokes them with nothing changed but its endpoint. The life
// of an environment is Lambda's: it is started when an invocation finds no
// idle one, frozen (SIGSTOP for its process group) as soon as the invocation
// has finished, thawed for the next one, and ended by SIGKILL, with SIGTERM
// 500 ms earlier if it has registered an extension. Timeouts, crashes, the
// memory limit, concurrency limits, log tails, and the lines that Lambda
// writes into a function's log are reproduced too.
//
// What differs from the real service, by intent: a failed initialization is
// not tried a second time; asynchronous invocations are retried only if the
// function says so; CPU is not shared out by memory size; nothing keeps
// functions apart but their processes and places.
package lambdalab
