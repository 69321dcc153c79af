// Command singlethread counts words in one goroutine, without network, splits or
// shuffle: the rival that a distributed word count has to beat (the COST question
// of McSherry, Isard and Murray, HotOS 2015), and the independent count that
// checks it. It shares no code with the MapReduce.
//
// A word is a maximal run of Unicode letters and digits, lower-cased. Output is
// one word<TAB>count per line, sorted by bytes.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

func main() {
	input := flag.String("input", "", "file or directory to count")
	flag.Parse()
	if err := run(*input, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "singlethread:", err)
		os.Exit(1)
	}
}

func run(input string, out *os.File) error {
	if input == "" {
		return errors.New("no input given; pass --input FILE or --input DIRECTORY")
	}
	counts := map[string]*int{}
	err := filepath.WalkDir(input, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil {
			count(text, counts)
		}
		return err
	})
	if err != nil {
		return err
	}
	words := make([]string, 0, len(counts))
	for w := range counts {
		words = append(words, w)
	}
	slices.Sort(words)
	w := bufio.NewWriterSize(out, 1<<20)
	for _, word := range words {
		fmt.Fprintf(w, "%s\t%d\n", word, *counts[word])
	}
	return w.Flush()
}

// count adds the words of text. The map holds pointers, so that a known word costs one look-up and no allocation.
func count(text []byte, counts map[string]*int) {
	word := make([]byte, 0, 64)
	flush := func() {
		if len(word) == 0 {
			return
		}
		if n, ok := counts[string(word)]; ok {
			*n++
		} else {
			n := 1
			counts[strings.Clone(string(word))] = &n
		}
		word = word[:0]
	}
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9':
			word = append(word, c)
			i++
		case 'A' <= c && c <= 'Z':
			word = append(word, c+'a'-'A')
			i++
		case c < utf8.RuneSelf:
			flush()
			i++
		default:
			r, size := utf8.DecodeRune(text[i:])
			if invalid := r == utf8.RuneError && size == 1; !invalid && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
				word = utf8.AppendRune(word, unicode.ToLower(r))
			} else {
				flush()
			}
			i += size
		}
	}
	flush()
}
