package input

import "fmt"

// Range is a part of one object.
type Range struct {
	Key    string `json:"key"`
	Offset int64  `json:"offset"` // bytes
	Length int64  `json:"length"` // bytes, at least 1
}

// Split is the input of one mapper: the bytes of its ranges, back to back. It
// begins at a line's start and ends at a line's end.
type Split struct {
	Ranges []Range `json:"ranges,omitempty"`
	// Ends are the positions in the split, ascending and above 0, at which a file ends.
	Ends []int64 `json:"ends,omitempty"`
}

// Size is the number of bytes in the split.
func (s Split) Size() int64 {
	var size int64
	for _, r := range s.Ranges {
		size += r.Length
	}
	return size
}

// Check reports a split that cannot be read.
func (s Split) Check() error {
	for _, r := range s.Ranges {
		if r.Key == "" || r.Offset < 0 || r.Length < 1 {
			return fmt.Errorf("bad split: range of %d bytes at %d in object %q", r.Length, r.Offset, r.Key)
		}
	}
	size, last := s.Size(), int64(0)
	for _, end := range s.Ends {
		if end <= last || end > size {
			return fmt.Errorf("bad split: a file ends at %d, after %d, in %d bytes", end, last, size)
		}
		last = end
	}
	return nil
}

// layout is a stream of files that was cut into objects: where each begins and ends.
type layout struct {
	objects []Range // Offset is the position in the stream
	ends    []int64 // of the files that are not empty
	cuts    []int64 // where each split but the first begins
	size    int64
}

// splits maps the stretches between the cuts to ranges of objects.
func (l layout) splits() []Split {
	splits := make([]Split, len(l.cuts)+1)
	object, end := 0, 0
	for i := range splits {
		from, to := int64(0), l.size
		if i > 0 {
			from = l.cuts[i-1]
		}
		if i < len(l.cuts) {
			to = l.cuts[i]
		}
		for ; end < len(l.ends) && l.ends[end] <= to; end++ {
			splits[i].Ends = append(splits[i].Ends, l.ends[end]-from)
		}
		for at := from; at < to; {
			o := l.objects[object]
			stop := min(to, o.Offset+o.Length)
			if stop == at {
				object++
				continue
			}
			splits[i].Ranges = append(splits[i].Ranges, Range{Key: o.Key, Offset: at - o.Offset, Length: stop - at})
			at = stop
		}
	}
	return splits
}
