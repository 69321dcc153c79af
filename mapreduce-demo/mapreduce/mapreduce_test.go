package mapreduce

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

type pair struct{ Key, Value string }

func encode(t testing.TB, pairs []pair) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewRunWriter(&b)
	for _, p := range pairs {
		if err := w.Write([]byte(p.Key), []byte(p.Value)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if w.Size() != int64(b.Len()) {
		t.Fatalf("Size is %d, wrote %d", w.Size(), b.Len())
	}
	return b.Bytes()
}

func decode(r io.Reader) ([]pair, error) {
	var pairs []pair
	run := NewRunReader(r)
	for {
		switch err := run.Next(); {
		case err == io.EOF:
			return pairs, nil
		case err != nil:
			return pairs, err
		}
		pairs = append(pairs, pair{string(run.Key()), string(run.Value())})
	}
}

func TestRunsComeBackAsWritten(t *testing.T) {
	long := strings.Repeat("long", 50_000)
	for name, pairs := range map[string][]pair{
		"empty":      nil,
		"one":        {{"a", "1"}},
		"empty key":  {{"", ""}, {"", "x"}, {"a", ""}},
		"shared":     {{"bradawl", "1"}, {"bradawls", "2"}, {"brag", "3"}},
		"repeated":   {{"k", "1"}, {"k", "2"}, {"k", "3"}},
		"long":       {{"a", long}, {long, "x"}, {long + "x", long}},
		"high bytes": {{"\x00", "\xff"}, {"\x7f", ""}, {"\xff\xff", "\x00"}},
	} {
		t.Run(name, func(t *testing.T) {
			run := encode(t, pairs)
			for how, r := range map[string]io.Reader{
				"whole":      bytes.NewReader(run),
				"one byte":   iotest.OneByteReader(bytes.NewReader(run)),
				"data error": iotest.DataErrReader(bytes.NewReader(run)),
			} {
				got, err := decode(r)
				if err != nil {
					t.Fatalf("%s: %v", how, err)
				}
				if diff := cmp.Diff(pairs, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", how, diff)
				}
			}
		})
	}
}

func TestRunLayout(t *testing.T) {
	got := encode(t, []pair{{"go", "1"}, {"gopher", "22"}})
	want := []byte{0, 2, 'g', 'o', 1, '1', 2, 4, 'p', 'h', 'e', 'r', 2, '2', '2'}
	if !bytes.Equal(got, want) {
		t.Errorf("run is %v, want %v", got, want)
	}
}

func TestEveryTruncatedRunIsNoticed(t *testing.T) {
	pairs := []pair{{"alpha", "1"}, {"alphabet", "22"}, {"beta", "333"}}
	run := encode(t, pairs)
	borders := []int{0}
	for i := range pairs {
		borders = append(borders, len(encode(t, pairs[:i+1])))
	}
	for n := range run {
		_, err := decode(bytes.NewReader(run[:n]))
		if whole := slices.Contains(borders, n); whole != (err == nil) {
			t.Errorf("%d of %d bytes: %v", n, len(run), err)
		} else if !whole && err != io.ErrUnexpectedEOF {
			t.Errorf("%d of %d bytes: %v, want io.ErrUnexpectedEOF", n, len(run), err)
		}
	}
}

func TestSenselessRunsAreCorrupt(t *testing.T) {
	for name, run := range map[string][]byte{
		"shares with nothing":  {1, 0, 0},
		"shares too much":      {0, 1, 'a', 0, 2, 0, 0},
		"keys descend":         {0, 1, 'b', 0, 0, 1, 'a', 0},
		"overlong varint":      bytes.Repeat([]byte{0x80}, 12),
		"varint over 64 bits":  {0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"key of an exabyte":    {0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"value of an exabyte":  {0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"shares beyond a long": {0, 1, 'a', 0, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := decode(bytes.NewReader(run)); !errors.Is(err, ErrCorrupt) {
				t.Errorf("error is %v, want ErrCorrupt", err)
			}
		})
	}
}

func TestWriterRefusesDescendingKeys(t *testing.T) {
	w := NewRunWriter(io.Discard)
	if err := w.Write([]byte("b"), nil); err != nil {
		t.Fatal(err)
	}
	if err := w.Write([]byte("a"), nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("error is %v, want ErrCorrupt", err)
	}
}

func FuzzRunReader(f *testing.F) {
	f.Add(encode(f, []pair{{"a", "1"}, {"ab", "2"}}))
	f.Add([]byte{0, 1, 'b', 0, 0, 1, 'a', 0})
	f.Fuzz(func(t *testing.T, run []byte) {
		pairs, err := decode(bytes.NewReader(run))
		if err != nil {
			return
		}
		// What decodes has sorted keys, and decodes again from its own encoding.
		if !slices.IsSortedFunc(pairs, func(a, b pair) int { return strings.Compare(a.Key, b.Key) }) {
			t.Errorf("keys of %x are not sorted: %q", run, pairs)
		}
		again, err := decode(bytes.NewReader(encode(t, pairs)))
		if err != nil || !slices.Equal(pairs, again) {
			t.Errorf("%q came back as %q, %v", pairs, again, err)
		}
	})
}

func FuzzUvarint(f *testing.F) {
	f.Add([]byte{0x80, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Uvarint{}.Decode(b)
		if err != nil {
			return
		}
		if w, err := (Uvarint{}).Decode(Uvarint{}.Append(nil, v)); err != nil || w != v {
			t.Errorf("%d came back as %d, %v", v, w, err)
		}
	})
}

func TestMergeYieldsAllPairsInOrder(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	for k := range 20 {
		var all []pair
		var runs []io.Reader
		for i := range k {
			var pairs []pair
			for n := range rng.IntN(30) {
				key := strings.Repeat("k", rng.IntN(12)) + string(rune('a'+rng.IntN(4)))
				pairs = append(pairs, pair{key, fmt.Sprintf("%02d.%02d", i, n)})
			}
			slices.SortFunc(pairs, func(a, b pair) int { return strings.Compare(a.Key+a.Value, b.Key+b.Value) })
			slices.SortStableFunc(pairs, func(a, b pair) int { return strings.Compare(a.Key, b.Key) })
			all = append(all, pairs...)
			runs = append(runs, iotest.HalfReader(bytes.NewReader(encode(t, pairs))))
		}
		slices.SortStableFunc(all, func(a, b pair) int { return strings.Compare(a.Key, b.Key) })
		m, err := newMerger(runs)
		if err != nil {
			t.Fatal(err)
		}
		var got []pair
		for top := m.top(); top != nil; top = m.top() {
			got = append(got, pair{string(top.Key()), string(top.Value())})
			if err := m.pop(); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(all, got); diff != "" {
			t.Fatalf("merge of %d runs (-want +got):\n%s", k, diff)
		}
	}
}

// stringJob lists values per key; take says how many of them its reducer reads.
func stringJob(combine func(a, b string) string, take int) *Job[string, string] {
	return &Job[string, string]{
		Name: "list", Key: text{}, Value: text{}, Combine: combine,
		Mapper: func() Mapper[string, string] {
			return MapperFunc[string, string](func(_ context.Context, record []byte, out Emitter[string, string]) error {
				key, value, _ := strings.Cut(string(record), "=")
				return out.Emit(key, value)
			})
		},
		Reducer: func() Reducer[string, string] {
			return ReducerFunc[string, string](func(_ context.Context, key string, values *Values[string], out Emitter[string, string]) error {
				var list []string
				for len(list) < take {
					v, ok := values.Next()
					if !ok {
						break
					}
					list = append(list, v)
				}
				return out.Emit(key, strings.Join(list, "+"))
			})
		},
		Format: func(dst []byte, k, v string) []byte { return fmt.Appendf(dst, "%s:%s\n", k, v) },
	}
}

type text struct{}

func (text) Append(dst []byte, v string) []byte { return append(dst, v...) }
func (text) Decode(b []byte) (string, error)    { return string(b), nil }

type records struct{ rest []string }

func (r *records) Next() ([]byte, error) {
	if len(r.rest) == 0 {
		return nil, io.EOF
	}
	record := r.rest[0]
	r.rest = r.rest[1:]
	return []byte(record), nil
}

type closeBuffer struct{ bytes.Buffer }

func (*closeBuffer) Close() error { return nil }

func runJob(t *testing.T, job Runner, partitions int, inputs ...[]string) (string, MapStats, ReduceStats) {
	t.Helper()
	runs := make([][]io.Reader, partitions)
	var mapped MapStats
	for _, in := range inputs {
		stats, err := job.RunMap(t.Context(), &records{in}, func(p int) (io.WriteCloser, error) {
			b := new(closeBuffer)
			runs[p] = append(runs[p], b)
			return b, nil
		}, partitions)
		if err != nil {
			t.Fatal(err)
		}
		mapped.Pairs += stats.Pairs
		mapped.Emitted += stats.Emitted
	}
	var out bytes.Buffer
	var reduced ReduceStats
	for _, sources := range runs {
		stats, err := job.RunReduce(t.Context(), sources, &out)
		if err != nil {
			t.Fatal(err)
		}
		reduced.Keys += stats.Keys
		reduced.Pairs += stats.Pairs
	}
	return out.String(), mapped, reduced
}

func TestValuesOfAKeyComeInOrderWithoutACombiner(t *testing.T) {
	out, mapped, reduced := runJob(t, stringJob(nil, 99), 1, []string{"b=1", "a=2", "b=3"}, []string{"b=4", "c=5"})
	if want := "a:2\nb:1+3+4\nc:5\n"; out != want {
		t.Errorf("output %q, want %q", out, want)
	}
	if mapped.Pairs != 5 || reduced.Pairs != 5 || reduced.Keys != 3 {
		t.Errorf("stats %+v %+v", mapped, reduced)
	}
}

func TestCombinerMergesOnTheMapSide(t *testing.T) {
	out, mapped, _ := runJob(t, stringJob(func(a, b string) string { return a + b }, 99), 1, []string{"b=1", "a=2", "b=3"}, []string{"b=4"})
	if want := "a:2\nb:13+4\n"; out != want {
		t.Errorf("output %q, want %q", out, want)
	}
	if mapped.Pairs != 3 || mapped.Emitted != 4 {
		t.Errorf("stats %+v", mapped)
	}
}

func TestUnreadValuesAreSkipped(t *testing.T) {
	for take, want := range map[int]string{0: "a:\nb:\n", 1: "a:1\nb:4\n", 2: "a:1+2\nb:4\n"} {
		if out, _, _ := runJob(t, stringJob(nil, take), 1, []string{"a=1", "a=2", "a=3", "b=4"}); out != want {
			t.Errorf("take %d: %q, want %q", take, out, want)
		}
	}
}

func TestTheTableFindsEveryKeyAsItGrows(t *testing.T) {
	var in []string
	for i := range 3 * firstSlots {
		in = append(in, fmt.Sprintf("key%d=x", i%(firstSlots+firstSlots/2)))
	}
	_, mapped, reduced := runJob(t, stringJob(func(a, b string) string { return a + b }, 99), 3, in)
	if want := int64(firstSlots + firstSlots/2); mapped.Pairs != want || reduced.Keys != want {
		t.Errorf("%d pairs, %d keys, want %d", mapped.Pairs, reduced.Keys, want)
	}
}

func TestPartitionsDependOnTheKeyAlone(t *testing.T) {
	job := stringJob(nil, 99)
	first, _, _ := runJob(t, job, 4, []string{"a=1", "b=1", "c=1", "d=1"}, []string{"d=2", "c=2", "b=2", "a=2"})
	lines := strings.Split(strings.TrimSpace(first), "\n")
	slices.Sort(lines)
	if want := []string{"a:1+2", "b:1+2", "c:1+2", "d:1+2"}; !slices.Equal(lines, want) {
		t.Errorf("output %q, want %q", lines, want)
	}
	// Golden: a change would mix runs of different builds.
	for key, want := range map[string]int{"a": 3, "bradawl": 3, "": 3} {
		if got := PartitionByHash([]byte(key), 4); got != want {
			t.Errorf("PartitionByHash(%q, 4) = %d, want %d", key, got, want)
		}
	}
}

func TestFailuresReachTheCaller(t *testing.T) {
	boom := errors.New("boom")
	job := stringJob(nil, 99)
	open := func(int) (io.WriteCloser, error) { return new(closeBuffer), nil }
	failing := *job
	failing.Mapper = func() Mapper[string, string] {
		return MapperFunc[string, string](func(context.Context, []byte, Emitter[string, string]) error { return boom })
	}
	if _, err := failing.RunMap(t.Context(), &records{[]string{"a"}}, open, 1); !errors.Is(err, boom) {
		t.Errorf("mapper's error: %v", err)
	}
	if _, err := job.RunMap(t.Context(), &records{[]string{"a"}}, func(int) (io.WriteCloser, error) { return nil, boom }, 1); !errors.Is(err, boom) {
		t.Errorf("opener's error: %v", err)
	}
	wild := *job
	wild.Partition = func([]byte, int) int { return 7 }
	if _, err := wild.RunMap(t.Context(), &records{[]string{"a"}}, open, 2); !errors.Is(err, ErrJob) {
		t.Errorf("wild partitioner: %v", err)
	}
	failing = *job
	failing.Reducer = func() Reducer[string, string] {
		return ReducerFunc[string, string](func(context.Context, string, *Values[string], Emitter[string, string]) error { return boom })
	}
	good := encode(t, []pair{{"a", "1"}, {"b", "2"}})
	if _, err := failing.RunReduce(t.Context(), []io.Reader{bytes.NewReader(good)}, io.Discard); !errors.Is(err, boom) {
		t.Errorf("reducer's error: %v", err)
	}
	var run *RunError
	_, err := job.RunReduce(t.Context(), []io.Reader{bytes.NewReader(good), io.MultiReader(bytes.NewReader(good[:4]), iotest.ErrReader(boom))}, io.Discard)
	if !errors.As(err, &run) || run.Run != 1 || !errors.Is(err, boom) {
		t.Errorf("second run's error: %v", err)
	}
	_, err = job.RunReduce(t.Context(), []io.Reader{bytes.NewReader(good[:len(good)-1])}, io.Discard)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("truncated run: %v", err)
	}
	if _, err := job.RunReduce(t.Context(), []io.Reader{bytes.NewReader(good)}, failingWriter{boom}); !errors.Is(err, boom) {
		t.Errorf("writer's error: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(boom)
	if _, err := job.RunReduce(ctx, []io.Reader{bytes.NewReader(good)}, io.Discard); !errors.Is(err, boom) {
		t.Errorf("canceled: %v", err)
	}
	if _, err := new(Job[string, string]).RunMap(t.Context(), &records{}, open, 1); !errors.Is(err, ErrJob) {
		t.Errorf("empty job: %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }
