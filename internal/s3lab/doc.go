// Package s3lab runs an S3 server of its own for demos and tests: versitygw's
// embedded gateway on a directory, in a process of its own, with exact counts
// of requests and bytes by S3 operation.
//
// The process is a re-execution of the running program, so that a program that
// uses the lab stays a single binary. It must call [Child] first thing in main
// (or in TestMain):
//
//	func main() {
//		s3lab.Child() // never returns in the server's process
//		...
//	}
//
// After that, [Start] brings a server up and returns once it accepts requests.
// [Config.Place] says where the process runs, for example in a host of a
// network lab. Parent and server talk over pipes only: the configuration with
// its secrets, the counts, and the end of the parent, which ends the server.
// Nothing of it needs a network path between the two, and no secret is ever
// among the process's arguments.
//
// With a [Model] it behaves as S3 does towards a function: latencies by published
// percentiles, 503 SlowDown beyond a prefix's rate, bandwidth by a token bucket
// per client. It is off unless asked for, and [Stats] say whether it was on.
// [Server.Inject] spoils single requests.
//
// The gateway keeps state in package variables, which is why there is one
// server per process.
package s3lab
