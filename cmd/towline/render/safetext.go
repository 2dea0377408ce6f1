package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
)

// SafeText makes a name or a message safe as a part of one line: it moves no
// cursor, begins no line, and does not change the order of reading. Line ends and
// tabs become spaces.
func SafeText(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' || r == '\t' {
			return ' '
		}
		return safeRune(r)
	}, s)
}

func safeRune(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return unicode.ReplacementChar
}

// NewJSON returns an encoder whose output has no character that a terminal acts
// on. They become \u escapes, which mean the same. encoding/json alone keeps some,
// such as U+009B, which begins a control sequence, and U+202E.
func NewJSON(w io.Writer) *json.Encoder { return json.NewEncoder(safeJSONWriter{w}) }

type safeJSONWriter struct{ w io.Writer }

func (s safeJSONWriter) Write(text []byte) (int, error) {
	if _, err := s.w.Write(SafeJSON(text)); err != nil {
		return 0, err
	}
	return len(text), nil
}

// SafeJSON escapes the characters of a JSON text that a terminal acts on. Outside
// of strings JSON has none but line ends, which it keeps.
func SafeJSON(text []byte) []byte {
	var b bytes.Buffer
	for _, r := range string(text) {
		switch high, low := utf16.EncodeRune(r); {
		case r == '\n' || unicode.IsPrint(r):
			b.WriteRune(r)
		case high != unicode.ReplacementChar:
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}
