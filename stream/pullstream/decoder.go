package pullstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// MaxLine is the longest line, in bytes, that a Decoder made with
// NewDecoder takes. The longest line recorded from an engine has under 2 KiB.
const MaxLine = 1 << 20

// ErrLineTooLong is the error for a line above the decoder's cap.
var ErrLineTooLong = errors.New("line is too long for a pull stream")

// A SyntaxError is a line that is no JSON object of the stream's shape.
type SyntaxError struct {
	Line int    // counted from 1
	Text string // the beginning of the line, at most maxText bytes
	Err  error
}

// maxText bounds what a SyntaxError has of its line, in bytes.
const maxText = 200

func (e *SyntaxError) Error() string {
	text := e.Text
	if len(text) >= maxText {
		text += "…" // it tells package redact that a secret may be cut
	}
	return fmt.Sprintf("line %d of the pull stream is not a message: %v: %q", e.Line, e.Err, text)
}

func (e *SyntaxError) Unwrap() error { return e.Err }

// A Decoder reads messages from a pull stream. It holds one line in memory,
// never more than its cap. It is for one goroutine.
type Decoder struct {
	r    io.Reader
	max  int
	buf  []byte // read and not yet decoded
	scan int    // buf[:scan] holds no newline
	end  error  // with which the reader ended
	rest []byte // of the present line, after its first object
	line int
	last bool  // the present line ended with the stream, not with a newline
	err  error // sticky
}

// NewDecoder returns a Decoder that takes lines of up to max bytes; 0 means
// MaxLine.
func NewDecoder(r io.Reader, max int) *Decoder {
	if max <= 0 {
		max = MaxLine
	}
	return &Decoder{r: r, max: max}
}

// Next returns the next message. At the stream's clean end it returns io.EOF;
// where the stream stops inside a message, io.ErrUnexpectedEOF. A line above
// the cap gives ErrLineTooLong, one that is no message a *SyntaxError, and a
// failed read the reader's own error. After an error every call returns it.
//
// A message that reports a failure is returned like any other: see
// Message.Failure.
func (d *Decoder) Next() (Message, error) {
	for d.err == nil {
		line := bytes.TrimSpace(d.rest)
		if len(line) == 0 {
			d.rest, d.err = d.readLine()
			continue
		}
		var m Message
		m, d.rest, d.err = d.decode(line)
		if d.err == nil {
			return m, nil
		}
	}
	return Message{}, d.err
}

// decode takes the first object off the line. Objects that share a line are
// taken one by one, as Docker's own client takes them.
func (d *Decoder) decode(line []byte) (Message, []byte, error) {
	var m Message
	if line[0] != '{' {
		return m, nil, d.syntaxError(line, errors.New("it does not begin with {"))
	}
	js := json.NewDecoder(bytes.NewReader(line))
	if err := js.Decode(&m); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) && d.last {
			// The side that closed the stream has cut the message off.
			return m, nil, io.ErrUnexpectedEOF
		}
		return m, nil, d.syntaxError(line, err)
	}
	return m, line[js.InputOffset():], nil
}

func (d *Decoder) syntaxError(line []byte, err error) error {
	line = line[:min(len(line), maxText)]
	return &SyntaxError{Line: d.line, Text: string(line), Err: err}
}

// readLine returns the next line without its newline. The slice is valid
// until the next call.
func (d *Decoder) readLine() ([]byte, error) {
	const chunk = 4 << 10
	for {
		if i := bytes.IndexByte(d.buf[d.scan:], '\n'); i >= 0 {
			line := d.buf[:d.scan+i]
			d.buf, d.scan = d.buf[d.scan+i+1:], 0
			d.line++
			if len(line) > d.max {
				return nil, ErrLineTooLong
			}
			return line, nil
		}
		d.scan = len(d.buf)
		if len(d.buf) > d.max {
			return nil, ErrLineTooLong
		}
		if d.end != nil {
			if d.end != io.EOF || len(d.buf) == 0 {
				return nil, d.end
			}
			line := d.buf
			d.buf, d.scan = nil, 0
			d.line++
			d.last = true
			return line, nil
		}
		if cap(d.buf)-len(d.buf) < chunk {
			// A new array, since the line last returned may still be in use.
			d.buf = append(make([]byte, 0, 2*len(d.buf)+chunk), d.buf...)
		}
		n, err := d.r.Read(d.buf[len(d.buf) : len(d.buf)+chunk])
		// Lines that came with the error are still returned.
		d.buf, d.end = d.buf[:len(d.buf)+n], err
	}
}
