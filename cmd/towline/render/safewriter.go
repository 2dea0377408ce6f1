package render

import (
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// SafeWriter passes on what a program prints to a terminal that the program does
// not own: its text and line ends. It leaves out whole control sequences (ECMA-48),
// also those that come in parts, and replaces other control characters and invalid
// UTF-8.
type SafeWriter struct {
	w      io.Writer
	rest   []byte // the beginning of a character
	state  sequence
	length int // of the sequence so far, in characters
}

// NewSafeWriter returns a SafeWriter in front of w.
func NewSafeWriter(w io.Writer) *SafeWriter { return &SafeWriter{w: w} }

// sequence is the part of a control sequence that comes next.
type sequence int

const (
	noSequence      sequence = iota
	afterEscape              // the character that decides the kind of the sequence
	afterSpace               // more characters from space to /, or the last one
	controlSequence          // parameters, or the last character
	commandString            // until ST, or BEL (OSC)
	otherString              // until ST (DCS, SOS, PM, APC, and ESC k of screen and tmux)
)

// maxSequence limits a sequence, in characters. It leaves room for an image. The
// rest of a sequence without an end is shown.
const maxSequence = 1 << 20

// Write implements io.Writer.
func (s *SafeWriter) Write(p []byte) (int, error) {
	text := append(s.rest, p...)
	var shown strings.Builder
	for utf8.FullRune(text) {
		r, size := utf8.DecodeRune(text)
		text = text[size:]
		if s.shows(r) {
			if r != '\n' && r != '\r' && r != '\t' {
				r = safeRune(r)
			}
			shown.WriteRune(r)
		}
	}
	s.rest = slices.Clone(text)
	if _, err := io.WriteString(s.w, shown.String()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// shows takes the next character, and reports whether it belongs to no sequence.
// Invalid UTF-8 comes as U+FFFD, which ends every sequence but a string.
func (s *SafeWriter) shows(r rune) bool {
	if began := begins[r]; began != noSequence {
		s.state, s.length = began, 0
		return false
	}
	if s.state == noSequence {
		return r != charST
	}
	if s.length++; s.length > maxSequence || r == charCAN || r == charSUB || r == charST {
		s.state = noSequence
		return false
	}
	if s.state == commandString || s.state == otherString {
		if r == charBEL && s.state == commandString {
			s.state = noSequence
		}
		return false
	}
	switch {
	case r < ' ' || r == charDEL:
		return r == '\n' || r == '\r' || r == '\t' // a terminal acts on them at once
	case r > '~':
		s.state = noSequence
		return true
	case s.state == controlSequence:
		if r >= '@' {
			s.state = noSequence
		}
	case r <= '/':
		s.state = afterSpace
	case s.state == afterEscape:
		s.state = introduces[r]
	default:
		s.state = noSequence
	}
	return false
}

// Control characters with a meaning in sequences.
const (
	charBEL = 0x07
	charCAN = 0x18
	charSUB = 0x1a
	charDEL = 0x7f
	charST  = 0x9c // ends a string, as ESC \ does
)

// begins has the characters that begin a sequence, also within another one.
var begins = map[rune]sequence{
	0x1b: afterEscape, 0x9b: controlSequence, 0x9d: commandString, 0x90: otherString, 0x98: otherString, 0x9e: otherString, 0x9f: otherString,
}

// introduces has the characters that begin a longer sequence after ESC. ESC and
// any other character are a whole sequence.
var introduces = map[rune]sequence{
	'[': controlSequence, ']': commandString, 'P': otherString, 'X': otherString, '^': otherString, '_': otherString, 'k': otherString,
}
