package render

import (
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/text/width"
)

// drawEvery limits how often progress alone redraws the screen.
const drawEvery = 50 * time.Millisecond

// screen draws a picture on a terminal again and again in the same place.
type screen struct {
	out     io.Writer
	palette Palette
	size    func() (columns, rows int, err error) // the present size of the terminal
	drawn   []int                                 // columns of each line of the last picture
	at      time.Time                             // when it was drawn
}

// wait returns how long after now the next picture of progress alone is due.
func (s *screen) wait() time.Duration { return drawEvery - time.Since(s.at) }

// measure returns the size of the terminal, and that of a common one where it is not
// known.
func (s *screen) measure() (columns, rows int) {
	columns, rows, err := s.size()
	if err != nil || columns < 20 || rows < 2 {
		return 80, 24
	}
	return columns, rows
}

// draw replaces the picture. picture gets the room for it. Lines that are too long are
// cut, because a line that wraps would be counted wrong.
func (s *screen) draw(picture func(columns, rows int) []line) {
	columns, rows := s.measure()
	var b strings.Builder
	s.erase(&b, columns)
	// The last column would wrap on some terminals. A picture of all rows would scroll
	// with the cursor below it, and a row is left to see what is above.
	for _, l := range picture(columns-1, max(1, rows-2)) {
		text := cut(l.text(), columns-1)
		s.drawn = append(s.drawn, columnsOf(text))
		b.WriteString(l.painted(s.palette, text) + "\n")
	}
	io.WriteString(s.out, b.String())
	s.at = time.Now()
}

// finish replaces the picture by lines that stay. They may be of any length.
func (s *screen) finish(lines []line) {
	columns, _ := s.measure()
	var b strings.Builder
	s.erase(&b, columns)
	for _, l := range lines {
		b.WriteString(l.painted(s.palette, l.text()) + "\n")
	}
	io.WriteString(s.out, b.String())
}

// erase removes the picture. Terminals wrap its lines when they become narrower.
func (s *screen) erase(b *strings.Builder, columns int) {
	up := 0
	for _, n := range s.drawn {
		up += max(1, (n+columns-1)/columns)
	}
	if up > 0 {
		fmt.Fprintf(b, "\x1b[%dA\r\x1b[J", up)
	}
	s.drawn = s.drawn[:0]
}

// cut shortens a text at its end to a number of columns.
func cut(s string, columns int) string {
	if columnsOf(s) <= columns {
		return s
	}
	return prefix(s, max(0, columns-1)) + "…"
}

// cutMiddle shortens a text in its middle: of a reference, its registry and its tag
// tell more.
func cutMiddle(s string, columns int) string {
	if columnsOf(s) <= columns {
		return s
	}
	back := (columns - 1) * 2 / 3
	return prefix(s, columns-1-back) + "…" + suffix(s, back)
}

// prefix returns as much of the beginning of a text as fits into columns.
func prefix(s string, columns int) string {
	used := 0
	for i, r := range s {
		if used += columnsOf(string(r)); used > columns {
			return s[:i]
		}
	}
	return s
}

// suffix returns as much of the end of a text as fits into columns.
func suffix(s string, columns int) string {
	for i := range s {
		if columnsOf(s[i:]) <= columns {
			return s[i:]
		}
	}
	return ""
}

// pad fills a text up to a number of columns.
func pad(s string, columns int) string { return s + strings.Repeat(" ", max(0, columns-columnsOf(s))) }

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
	done := 0
	if whole > 0 {
		done = max(0, min(columns, int(float64(columns)*float64(part)/float64(whole))))
	}
	return "[" + strings.Repeat("#", done) + strings.Repeat(".", columns-done) + "]"
}
