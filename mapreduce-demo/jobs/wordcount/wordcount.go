// Package wordcount counts words.
//
// A word is a maximal run of Unicode letters and digits, in lower case. Bytes
// that are not UTF-8 separate words. The output has one line per word: the word,
// a tab, its count.
package wordcount

import (
	"context"
	"strconv"

	"github.com/bradawl/bradawl/mapreduce-demo/mapreduce"
)

// Name is what payloads call this job.
const Name = "wordcount"

// Job describes the word count.
func Job() mapreduce.Runner {
	return &mapreduce.Job[[]byte, uint64]{
		Name:    Name,
		Key:     mapreduce.Bytes{},
		Value:   mapreduce.Uvarint{},
		Mapper:  func() mapreduce.Mapper[[]byte, uint64] { return new(counter) },
		Reducer: func() mapreduce.Reducer[[]byte, uint64] { return mapreduce.ReducerFunc[[]byte, uint64](sum) },
		Combine: func(a, b uint64) uint64 { return a + b },
		Format:  format,
	}
}

// counter emits each word of a record with the count 1.
type counter struct{ words words }

// Map implements mapreduce.Mapper.
func (c *counter) Map(_ context.Context, record []byte, out mapreduce.Emitter[[]byte, uint64]) error {
	c.words.reset(record)
	for word := c.words.next(); word != nil; word = c.words.next() {
		if err := out.Emit(word, 1); err != nil {
			return err
		}
	}
	return nil
}

func sum(_ context.Context, word []byte, counts *mapreduce.Values[uint64], out mapreduce.Emitter[[]byte, uint64]) error {
	var total uint64
	for n, ok := counts.Next(); ok; n, ok = counts.Next() {
		total += n
	}
	return out.Emit(word, total)
}

func format(dst []byte, word []byte, count uint64) []byte {
	dst = append(dst, word...)
	dst = append(dst, '\t')
	dst = strconv.AppendUint(dst, count, 10)
	return append(dst, '\n')
}
