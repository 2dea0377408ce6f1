package outputlog

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

// A TextDecoder makes texts of the bytes that a program prints on one of its
// outputs. UTF-8 stays text, however the bytes are split: the first bytes of a
// character wait for the rest. The zero TextDecoder is ready.
type TextDecoder struct {
	pending []byte // the first bytes of a character, at most 3
}

// Decode returns the pending bytes and p as a text. n is how many bytes are in
// it. ok is false where all of them are pending.
func (d *TextDecoder) Decode(p []byte) (text Text, n int, ok bool) {
	if len(d.pending) > 0 {
		p = append(d.pending, p...)
	}
	whole := len(p)
	for i := max(len(p)-utf8.UTFMax+1, 0); i < len(p); i++ {
		if !utf8.FullRune(p[i:]) {
			whole = i
			break
		}
	}
	d.pending = append([]byte(nil), p[whole:]...)
	return textOf(p[:whole])
}

// Flush returns the pending bytes at the end of the output.
func (d *TextDecoder) Flush() (text Text, n int, ok bool) {
	pending := d.pending
	d.pending = nil
	return textOf(pending)
}

func textOf(p []byte) (Text, int, bool) {
	if utf8.Valid(p) {
		return Text{Text: string(p)}, len(p), len(p) > 0
	}
	return Text{Text: base64.StdEncoding.EncodeToString(p), Encoding: "base64"}, len(p), true
}
