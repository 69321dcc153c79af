package mapreduce

import (
	"math/bits"

	"github.com/cespare/xxhash/v2"
)

// Partitioner picks the partition, 0 to partitions-1, of an encoded key. Every
// mapper of a job must pick the same one, so it depends on nothing else.
type Partitioner func(key []byte, partitions int) int

// PartitionByHash spreads keys by their 64-bit xxHash.
func PartitionByHash(key []byte, partitions int) int {
	return partitionOfHash(xxhash.Sum64(key), partitions)
}

// partitionOfHash scales a hash to 0..partitions-1 without a division.
func partitionOfHash(hash uint64, partitions int) int {
	hi, _ := bits.Mul64(hash, uint64(partitions))
	return int(hi)
}
