package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// answer takes an HTTP answer apart as it comes: status, header, and a body in
// chunks, of which a server that flushes makes one for each flush.
type answer struct {
	part   part
	carry  []byte // of the header, or of a chunk's size, as far as it has come
	left   int    // of the present chunk
	line   []byte // of the body, as far as it has come
	chunks int64
}

type part uint8

const (
	inHeader part = iota
	inSize
	inChunk
	afterChunk
	inTrailer
	done
)

// take takes what has come, and calls line with each line of the body that is
// whole, and without its end. The line is only good for the call.
func (a *answer) take(p []byte, line func([]byte) error) error {
	for len(p) > 0 {
		switch a.part {
		case inHeader, inSize, inTrailer, afterChunk:
			i := bytes.IndexByte(p, '\n')
			if i < 0 {
				a.carry = append(a.carry, p...)
				return nil
			}
			a.carry = append(a.carry, p[:i+1]...)
			p = p[i+1:]
			if err := a.turn(); err != nil {
				return err
			}
		case inChunk:
			n := min(a.left, len(p))
			if err := a.body(p[:n], line); err != nil {
				return err
			}
			if a.left -= n; a.left == 0 {
				a.part = afterChunk
			}
			p = p[n:]
		case done:
			return errors.New("something follows the answer")
		}
	}
	return nil
}

// between reports whether a chunk may begin with what comes next, and nothing
// of what came before is left over.
func (a *answer) between() bool { return a.part == inSize && len(a.carry)+len(a.line) == 0 }

// turn goes on to the next part, if the line in carry ends the present one.
func (a *answer) turn() error {
	switch a.part {
	case inHeader:
		if !bytes.HasSuffix(a.carry, []byte("\r\n\r\n")) {
			return nil
		}
		if !bytes.HasPrefix(a.carry, []byte("HTTP/1.1 200 ")) || !bytes.Contains(a.carry, []byte("\r\nTransfer-Encoding: chunked\r\n")) {
			return fmt.Errorf("answered %q", a.carry)
		}
		a.part = inSize
	case inSize:
		size, err := strconv.ParseUint(string(bytes.TrimSpace(a.carry)), 16, 31)
		if err != nil {
			return fmt.Errorf("a chunk's size: %w", err)
		}
		a.left, a.part = int(size), inChunk
		if size == 0 {
			a.part = inTrailer
		} else {
			a.chunks++
		}
	case afterChunk:
		a.part = inSize
	case inTrailer:
		a.part = done
	}
	a.carry = a.carry[:0]
	return nil
}

func (a *answer) body(p []byte, line func([]byte) error) error {
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			a.line = append(a.line, p...)
			return nil
		}
		whole := p[:i]
		if len(a.line) > 0 {
			a.line = append(a.line, whole...)
			whole = a.line
		}
		if err := line(whole); err != nil {
			return err
		}
		a.line, p = a.line[:0], p[i+1:]
	}
}
