// Package mapreduce is a small typed MapReduce library.
//
// A Job names a Mapper, a Reducer and the codecs of its keys and values. The map
// side of a job reads records (lines), collects what the mapper emits, combines
// values of equal keys where the job allows it, and writes one sorted run per
// partition. The reduce side merges the runs of one partition from all mappers
// and hands every key with all its values to the reducer. Where runs travel in
// between is not this package's business: it writes to an io.Writer and reads
// from an io.Reader.
//
// Keys are ordered by the bytes of their encoded form, everywhere.
package mapreduce
