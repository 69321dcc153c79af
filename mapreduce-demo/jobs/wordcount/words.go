package wordcount

import (
	"unicode"
	"unicode/utf8"
)

// words cuts text into words. The zero value is ready for reset. The word that
// next returns is valid until the call after.
type words struct {
	text []byte
	at   int
	word []byte
}

func (w *words) reset(text []byte) { w.text, w.at = text, 0 }

// next returns the next word in lower case, or nil at the end of the text.
func (w *words) next() []byte {
	text, at := w.text, w.at
	word := w.word[:0]
	for at < len(text) {
		b := text[at]
		if low := lower[b]; low != 0 {
			word = append(word, low)
			at++
			continue
		}
		if b >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(text[at:])
			if unicode.IsLetter(r) || unicode.IsDigit(r) {
				word = utf8.AppendRune(word, unicode.ToLower(r))
				at += size
				continue
			}
			at += size
		} else {
			at++
		}
		if len(word) > 0 {
			break
		}
	}
	w.at, w.word = at, word
	if len(word) == 0 {
		return nil
	}
	return word
}

// lower maps the ASCII letters and digits to lower case, and all other bytes to 0.
var lower = [256]byte{
	'0': '0', '1': '1', '2': '2', '3': '3', '4': '4', '5': '5', '6': '6', '7': '7', '8': '8', '9': '9',
	'a': 'a', 'b': 'b', 'c': 'c', 'd': 'd', 'e': 'e', 'f': 'f', 'g': 'g', 'h': 'h', 'i': 'i',
	'j': 'j', 'k': 'k', 'l': 'l', 'm': 'm', 'n': 'n', 'o': 'o', 'p': 'p', 'q': 'q', 'r': 'r',
	's': 's', 't': 't', 'u': 'u', 'v': 'v', 'w': 'w', 'x': 'x', 'y': 'y', 'z': 'z',
	'A': 'a', 'B': 'b', 'C': 'c', 'D': 'd', 'E': 'e', 'F': 'f', 'G': 'g', 'H': 'h', 'I': 'i',
	'J': 'j', 'K': 'k', 'L': 'l', 'M': 'm', 'N': 'n', 'O': 'o', 'P': 'p', 'Q': 'q', 'R': 'r',
	'S': 's', 'T': 't', 'U': 'u', 'V': 'v', 'W': 'w', 'X': 'x', 'Y': 'y', 'Z': 'z',
}
