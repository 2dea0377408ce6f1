package stream

import (
	"encoding/base64"
	"unicode/utf8"
)

// Text is a piece of what a program printed, in the form of a log event. JSON
// has only text, and a program may print any bytes.
type Text struct {
	Text string `json:"text"`
	// Encoding is "" where Text is what was printed, and "base64" (RFC 4648,
	// section 4) where that is no UTF-8.
	Encoding string `json:"encoding,omitempty"`
}

// Bytes returns what was printed. It fails for an encoding other than those
// two, and for a text that is not encoded so.
func (t Text) Bytes() ([]byte, error) {
	switch t.Encoding {
	case "":
		return []byte(t.Text), nil
	case "base64":
		return base64.StdEncoding.DecodeString(t.Text)
	}
	return nil, base64.CorruptInputError(0)
}

// A Teller makes texts of what one output of a program prints, whatever pieces
// it comes in: UTF-8 stays text, since a character of which only the beginning
// has come is held back. The zero Teller is ready.
type TextDecoder struct {
	held []byte // the beginning of a character, at most 3 bytes
}

// Tell returns p, after what was held back before, as a text. ok is false where
// all of it is held back. n is how many bytes are in the text.
func (t *TextDecoder) Tell(p []byte) (text Text, n int, ok bool) {
	if len(t.held) > 0 {
		p = append(t.held, p...)
	}
	whole := len(p)
	for i := max(len(p)-utf8.UTFMax+1, 0); i < len(p); i++ {
		if !utf8.FullRune(p[i:]) {
			whole = i
			break
		}
	}
	t.held = append([]byte(nil), p[whole:]...)
	return textOf(p[:whole])
}

// Flush returns what is held back: nothing comes after it.
func (t *TextDecoder) Flush() (text Text, n int, ok bool) {
	held := t.held
	t.held = nil
	return textOf(held)
}

func textOf(p []byte) (Text, int, bool) {
	if utf8.Valid(p) {
		return Text{Text: string(p)}, len(p), len(p) > 0
	}
	return Text{Text: base64.StdEncoding.EncodeToString(p), Encoding: "base64"}, len(p), true
}
