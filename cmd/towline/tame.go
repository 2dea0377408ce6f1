package main

import (
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// tame passes on what a program prints to a terminal that is not the program's:
// its text and line ends. Control sequences (ECMA-48) are left out whole, also
// where they come in parts. Other control characters, and what is no UTF-8, are
// replaced.
type tame struct {
	w      io.Writer
	rest   []byte // the beginning of a character
	state  sequence
	length int // of the sequence so far, in characters
}

// sequence is the part of a control sequence that comes next.
type sequence int

const (
	noSequence      sequence = iota
	afterEscape              // what kind of sequence it is
	afterSpace               // more characters like it, or the last one
	controlSequence          // parameters, or the last character
	commandString            // until ST, or BEL (OSC)
	otherString              // until ST (DCS, SOS, PM, APC, and ESC k of screen and tmux)
)

// maxSequence is how long a sequence may be, in characters: an image is one. What
// follows in one that has no end is shown.
const maxSequence = 1 << 20

// Write implements io.Writer.
func (t *tame) Write(p []byte) (int, error) {
	text := append(t.rest, p...)
	var shown strings.Builder
	for utf8.FullRune(text) {
		r, size := utf8.DecodeRune(text)
		text = text[size:]
		if t.shows(r) {
			if r != '\n' && r != '\r' && r != '\t' {
				r = visible(r)
			}
			shown.WriteRune(r)
		}
	}
	t.rest = slices.Clone(text)
	if _, err := io.WriteString(t.w, shown.String()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// shows takes in the next character, and reports whether it belongs to no
// sequence. Invalid UTF-8 is a U+FFFD, which ends a sequence that is no string.
func (t *tame) shows(r rune) bool {
	if began := begins[r]; began != noSequence {
		t.state, t.length = began, 0
		return false
	}
	if t.state == noSequence {
		return r != charST
	}
	if t.length++; t.length > maxSequence || r == charCAN || r == charSUB || r == charST {
		t.state = noSequence
		return false
	}
	if t.state == commandString || t.state == otherString {
		if r == charBEL && t.state == commandString {
			t.state = noSequence
		}
		return false
	}
	switch {
	case r < ' ' || r == charDEL:
		return r == '\n' || r == '\r' || r == '\t' // a terminal acts on them at once
	case r > '~':
		t.state = noSequence
		return true
	case t.state == controlSequence:
		if r >= '@' {
			t.state = noSequence
		}
	case r <= '/':
		t.state = afterSpace
	case t.state == afterEscape:
		t.state = introduces[r]
	default:
		t.state = noSequence
	}
	return false
}

// Control characters that have a meaning in sequences.
const (
	charBEL = 0x07
	charCAN = 0x18
	charSUB = 0x1a
	charDEL = 0x7f
	charST  = 0x9c // the end of a string, as ESC \ is
)

// begins are the characters that begin a sequence wherever they stand.
var begins = map[rune]sequence{
	0x1b: afterEscape, 0x9b: controlSequence, 0x9d: commandString, 0x90: otherString, 0x98: otherString, 0x9e: otherString, 0x9f: otherString,
}

// introduces are the same after an ESC. What is not in it is a whole sequence.
var introduces = map[rune]sequence{
	'[': controlSequence, ']': commandString, 'P': otherString, 'X': otherString, '^': otherString, '_': otherString, 'k': otherString,
}
