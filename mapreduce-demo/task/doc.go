// Package task is what the Lambda function of a MapReduce does: one map task or
// one reduce task per invocation.
//
// A map task signs in and joins the shuffle at once, so that the links to the
// reducers come up while it reads and maps. A reduce task merges its partition of
// all mappers, commits the output once, and only then acknowledges.
package task
