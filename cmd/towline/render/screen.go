package render

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/width"
)

// drawEvery limits how often progress alone redraws the screen.
const drawEvery = 50 * time.Millisecond

// screen writes lines that stay to a terminal, and redraws a picture below them.
type screen struct {
	out   io.Writer
	size  func() (columns, rows int, err error) // the present size of the terminal
	drawn int                                   // lines of the last picture
	at    time.Time                             // when it was drawn
}

// due reports whether drawEvery has passed since the last picture.
func (s *screen) due() bool { return time.Since(s.at) >= drawEvery }

// draw writes a line that stays, if it is not empty, and replaces the picture.
// picture gets the room for it; lines that are too long are cut, because a line
// that wraps would be counted wrong.
func (s *screen) draw(stays string, picture func(columns, rows int) []string) {
	columns, rows, err := s.size()
	if err != nil || columns < 20 || rows < 2 {
		columns, rows = 80, 24
	}
	columns, rows = columns-1, rows-1 // the last of both would scroll on some terminals
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.drawn)
	}
	b.WriteString("\r\x1b[J")
	if stays != "" {
		b.WriteString(stays + "\n")
	}
	lines := picture(columns, rows)
	for _, l := range lines {
		b.WriteString(cut(l, columns) + "\n")
	}
	io.WriteString(s.out, b.String())
	s.drawn, s.at = len(lines), time.Now()
}

// clear removes the picture.
func (s *screen) clear() {
	if s.drawn > 0 {
		s.draw("", func(int, int) []string { return nil })
	}
}

// cut shortens a text at its end to a number of columns.
func cut(s string, columns int) string {
	if columnsOf(s) <= columns {
		return s
	}
	used := 1 // the ellipsis
	for i, r := range s {
		if used += columnsOf(string(r)); used > columns {
			return s[:i] + "…"
		}
	}
	return s
}

// cutFront shortens a text at its beginning. The end of a reference matters more.
func cutFront(s string, columns int) string {
	if columnsOf(s) <= columns {
		return s
	}
	r := []rune(s)
	slices.Reverse(r)
	r = []rune(cut(string(r), columns))
	slices.Reverse(r)
	return string(r)
}

// columnsOf returns how many columns of a terminal a text takes.
func columnsOf(s string) (n int) {
	for _, r := range s {
		n++
		if k := width.LookupRune(r).Kind(); k == width.EastAsianWide || k == width.EastAsianFullwidth {
			n++
		}
	}
	return n
}

// bar draws a part of a whole.
func bar(part, whole int64, columns int) string {
	done := int(min(int64(columns), int64(columns)*part/whole))
	return "[" + strings.Repeat("#", done) + strings.Repeat(".", columns-done) + "]"
}
