// Package stage is everything around a MapReduce on one machine: a rendezvous, an
// S3 server and a Lambda service, and between them either the loopback interface
// or a lab of network namespaces in which every execution environment sits
// behind a NAT of its own.
//
// The rendezvous and the S3 server are processes of their own. Both, and the
// workers, are further runs of the same program, so that a program that uses the
// stage stays a single binary: it calls s3lab.Child first thing in main, and
// Config says by which arguments it becomes a rendezvous and a worker.
package stage
