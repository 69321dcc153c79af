// Package report makes something readable of what runs did: one Summary per run,
// a Document of all of them for machines, and text for people.
package report
