// Package driver runs a MapReduce on a Lambda function: it invokes every task,
// runs those again that fail, and records each task's success once.
//
// With direct links all tasks run at once, since a mapper serves its partitions
// to the reducers itself. Through S3 the reducers follow when the mappers are done.
package driver
