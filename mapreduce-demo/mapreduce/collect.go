package mapreduce

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// collector holds what one map task emitted: all keys in one arena, and, when
// the job combines, an open-addressing table over them. Nothing is allocated per
// emitted pair beyond the growth of three slices.
type collector[K, V any] struct {
	job     *Job[K, V]
	arena   []byte
	entries []collected[V]
	// slots hold the upper half of a key's hash and, below, its entry's number plus one.
	slots   []uint64
	scratch []byte
	emitted int64
}

type collected[V any] struct {
	hash  uint64
	off   int
	size  int
	value V
}

const (
	firstSlots = 1 << 12
	tagMask    = math.MaxUint64 &^ math.MaxUint32
)

func newCollector[K, V any](j *Job[K, V]) *collector[K, V] {
	c := &collector[K, V]{job: j}
	if j.Combine != nil {
		c.slots = make([]uint64, firstSlots)
	}
	return c
}

func (c *collector[K, V]) key(i int) []byte {
	e := &c.entries[i]
	return c.arena[e.off : e.off+e.size]
}

// Emit implements Emitter.
func (c *collector[K, V]) Emit(key K, value V) error {
	c.emitted++
	c.scratch = c.job.Key.Append(c.scratch[:0], key)
	hash := xxhash.Sum64(c.scratch)
	if c.slots == nil {
		return c.add(hash, value)
	}
	mask := uint64(len(c.slots) - 1)
	tag := hash & tagMask
	for at := hash & mask; ; at = (at + 1) & mask {
		slot := c.slots[at]
		if slot == 0 {
			if err := c.add(hash, value); err != nil {
				return err
			}
			c.slots[at] = tag | uint64(len(c.entries))
			if len(c.entries)*2 > len(c.slots) {
				c.grow()
			}
			return nil
		}
		if slot&tagMask != tag {
			continue
		}
		e := &c.entries[uint32(slot)-1]
		if e.hash == hash && bytes.Equal(c.arena[e.off:e.off+e.size], c.scratch) {
			e.value = c.job.Combine(e.value, value)
			return nil
		}
	}
}

func (c *collector[K, V]) add(hash uint64, value V) error {
	if len(c.entries) >= math.MaxUint32-1 {
		return fmt.Errorf("one map task cannot hold more than %d pairs; use more mappers", len(c.entries))
	}
	off := len(c.arena)
	c.arena = append(c.arena, c.scratch...)
	c.entries = append(c.entries, collected[V]{hash: hash, off: off, size: len(c.scratch), value: value})
	return nil
}

func (c *collector[K, V]) grow() {
	slots := make([]uint64, 2*len(c.slots))
	mask := uint64(len(slots) - 1)
	for i := range c.entries {
		hash := c.entries[i].hash
		at := hash & mask
		for slots[at] != 0 {
			at = (at + 1) & mask
		}
		slots[at] = hash&tagMask | uint64(i+1)
	}
	c.slots = slots
}

// sortKey is what sorting looks at: the key's first eight bytes decide nearly
// always, without a look into the arena.
type sortKey struct {
	prefix uint64
	entry  int
}

func keyPrefix(key []byte) uint64 {
	if len(key) >= 8 {
		return binary.BigEndian.Uint64(key)
	}
	var b [8]byte
	copy(b[:], key)
	return binary.BigEndian.Uint64(b[:])
}

// flush writes one sorted run per partition and returns their sizes.
func (c *collector[K, V]) flush(ctx context.Context, open PartitionOpener, partitions int) ([]int64, error) {
	parts := make([][]sortKey, partitions)
	for i := range c.entries {
		p := 0
		if c.job.Partition == nil {
			p = partitionOfHash(c.entries[i].hash, partitions)
		} else if p = c.job.Partition(c.key(i), partitions); p < 0 || p >= partitions {
			return nil, fmt.Errorf("%w: job %q put a key into partition %d of %d", ErrJob, c.job.Name, p, partitions)
		}
		parts[p] = append(parts[p], sortKey{keyPrefix(c.key(i)), i})
	}
	sizes := make([]int64, partitions)
	for p, keys := range parts {
		if ctx.Err() != nil {
			return sizes, context.Cause(ctx)
		}
		// Equal keys keep the order of emission, so a run is the same every time.
		slices.SortFunc(keys, func(a, b sortKey) int {
			if a.prefix != b.prefix {
				return cmp.Compare(a.prefix, b.prefix)
			}
			if r := bytes.Compare(c.key(a.entry), c.key(b.entry)); r != 0 {
				return r
			}
			return cmp.Compare(a.entry, b.entry)
		})
		size, err := c.write(open, p, keys)
		if err != nil {
			return sizes, fmt.Errorf("write partition %d: %w", p, err)
		}
		sizes[p] = size
	}
	return sizes, nil
}

func (c *collector[K, V]) write(open PartitionOpener, p int, keys []sortKey) (size int64, err error) {
	w, err := open(p)
	if err != nil {
		return 0, err
	}
	defer func() {
		if cerr := w.Close(); err == nil {
			err = cerr
		}
	}()
	run := NewRunWriter(w)
	for _, k := range keys {
		c.scratch = c.job.Value.Append(c.scratch[:0], c.entries[k.entry].value)
		if err := run.Write(c.key(k.entry), c.scratch); err != nil {
			return 0, err
		}
	}
	err = run.Flush()
	return run.Size(), err
}
