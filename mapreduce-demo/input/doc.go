// Package input brings a job's input to where mappers can read it.
//
// Source lists the files below a path or an S3 prefix. Pack streams them, one
// after the other, into a few large objects and cuts the whole into one Split
// per mapper, of about equal size, at line borders. Reader turns a Split back
// into records.
//
// A record is a line: its bytes up to a newline or to the end of its file,
// however long. Two files never meet in one record.
package input
