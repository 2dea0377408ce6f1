package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/sirupsen/logrus"
	"golang.org/x/term"
)

// What others wrote (registries, engines, programs, a daemon that is not ours)
// comes to a terminal or into a log only through what is in this file: it must
// not move the cursor, begin a line, change the order of what is read, nor have
// the terminal do anything.

// printable makes a name or a message safe, as a part of one line.
func printable(s string) string { return strings.Map(visible, s) }

func visible(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return unicode.ReplacementChar
}

// printableJSON writes JSON with no character that a terminal acts on: they
// become \u escapes, which mean the same. encoding/json leaves some as they are,
// such as U+009B, which begins a control sequence, and U+202E.
type printableJSON struct{ w io.Writer }

// newJSON returns an encoder of what is printed as JSON.
func newJSON(w io.Writer) *json.Encoder { return json.NewEncoder(printableJSON{w}) }

func (p printableJSON) Write(text []byte) (int, error) {
	if _, err := p.w.Write(escaped(text)); err != nil {
		return 0, err
	}
	return len(text), nil
}

// escaped writes what is not printable in a JSON text as escapes. Outside of
// strings there is nothing of it but line ends.
func escaped(text []byte) []byte {
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

// printableLog makes a line of JSON safe as printableJSON does.
type printableLog struct{ logrus.JSONFormatter }

func (f *printableLog) Format(e *logrus.Entry) ([]byte, error) {
	line, err := f.JSONFormatter.Format(e)
	return escaped(line), err
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
