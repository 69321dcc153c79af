package wordcount

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

func cut(text []byte) []string {
	var w words
	w.reset(text)
	var got []string
	for word := w.next(); word != nil; word = w.next() {
		got = append(got, string(word))
	}
	return got
}

func TestWordsAreRunsOfLettersAndDigitsInLowerCase(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"nothing", "", nil},
		{"separators only", " \t.,;-_\x00\n", nil},
		{"one word", "bradawl", []string{"bradawl"}},
		{"upper case", "NAT Nat nat", []string{"nat", "nat", "nat"}},
		{"digits join letters", "rfc4787 8489x", []string{"rfc4787", "8489x"}},
		{"underscore and dash separate", "time_to-sync", []string{"time", "to", "sync"}},
		{"apostrophe separates", "don't", []string{"don", "t"}},
		{"umlauts", "Über STRASSE straße", []string{"über", "strasse", "straße"}},
		{"greek and cyrillic", "ΛΌΓΟΣ Слово", []string{"λόγοσ", "слово"}},
		{"no case", "漢字 123", []string{"漢字", "123"}},
		{"arabic digits", "٣٤x", []string{"٣٤x"}},
		{"invalid bytes separate", "ab\xffcd\xc3", []string{"ab", "cd"}},
		{"truncated rune between letters", "a\xe2\x82b", []string{"a", "b"}},
		{"replacement character separates", "a\uFFFDb", []string{"a", "b"}},
		{"combining mark separates", "e\u0301a", []string{"e", "a"}},
		{"non-breaking space separates", "a\u00a0b", []string{"a", "b"}},
		{"dotted capital i", "İx", []string{"ix"}},
		{"word at both ends", "a b", []string{"a", "b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, cut([]byte(test.text))); diff != "" {
				t.Errorf("words of %q (-want +got):\n%s", test.text, diff)
			}
		})
	}
}

// naive is a second implementation that shares nothing with the first.
func naive(text []byte) []string {
	var list []string
	for _, field := range strings.FieldsFunc(string(text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) {
		list = append(list, strings.Map(unicode.ToLower, field))
	}
	return list
}

func FuzzWordsEqualANaiveTokenizer(f *testing.F) {
	for _, seed := range []string{"", "a", "A b\xffC", "x\xe2\x82", "ÄÖ\u0130ß 1_2", "\xf0\x9f\x98\x80a"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if diff := cmp.Diff(naive(text), cut(text)); diff != "" {
			t.Errorf("words of %q (-naive +got):\n%s", text, diff)
		}
	})
}

type lines struct{ rest []string }

func (l *lines) Next() ([]byte, error) {
	if len(l.rest) == 0 {
		return nil, io.EOF
	}
	record := []byte(l.rest[0])
	l.rest = l.rest[1:]
	return record, nil
}

type part struct{ *bytes.Buffer }

func (part) Close() error { return nil }

func TestJobCountsWordsAcrossMappersAndReducers(t *testing.T) {
	texts := [][]string{
		{"The quick brown fox", "jumps over the lazy dog"},
		{},
		{"the end", "", "THE END"},
	}
	const reducers = 3
	runs := make([][]io.Reader, reducers)
	want := map[string]int{}
	for _, text := range texts {
		for _, line := range text {
			for _, word := range naive([]byte(line)) {
				want[word]++
			}
		}
		parts := make([]part, reducers)
		stats, err := Job().RunMap(t.Context(), &lines{text}, func(p int) (io.WriteCloser, error) {
			parts[p] = part{new(bytes.Buffer)}
			return parts[p], nil
		}, reducers)
		if err != nil {
			t.Fatal(err)
		}
		if int(stats.Records) != len(text) {
			t.Errorf("%d records, want %d", stats.Records, len(text))
		}
		for p := range parts {
			runs[p] = append(runs[p], parts[p])
		}
	}
	var got []string
	for _, sources := range runs {
		var out bytes.Buffer
		if _, err := Job().RunReduce(context.Background(), sources, &out); err != nil {
			t.Fatal(err)
		}
		part := strings.SplitAfter(out.String(), "\n")
		part = part[:len(part)-1]
		if !slices.IsSorted(part) {
			t.Errorf("part is not sorted: %q", part)
		}
		got = append(got, part...)
	}
	slices.Sort(got)
	var lines []string
	for _, word := range slices.Sorted(maps.Keys(want)) {
		lines = append(lines, fmt.Sprintf("%s\t%d\n", word, want[word]))
	}
	if diff := cmp.Diff(lines, got); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func BenchmarkMap(b *testing.B) {
	var text []string
	for i := range 20000 {
		text = append(text, fmt.Sprintf("func (c *Conn%d) Write(b []byte) (n int, err error) { return c.fd.Write(b[%d:]) }", i%977, i%31))
	}
	size := 0
	for _, line := range text {
		size += len(line) + 1
	}
	b.SetBytes(int64(size))
	for b.Loop() {
		_, err := Job().RunMap(b.Context(), &lines{text}, func(int) (io.WriteCloser, error) { return part{new(bytes.Buffer)}, nil }, 4)
		if err != nil {
			b.Fatal(err)
		}
	}
}
