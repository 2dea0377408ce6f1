package render

import (
	"io"
	"os"
	"strings"

	"github.com/towline/towline/puller"
)

// color is the number of a colour in ECMA-48, "" for that of the terminal.
type color string

// The colours: few, so that they mean something. The words say the same without them.
const (
	failed color = "31" // red
	done   color = "32" // green
	notice color = "33" // yellow
)

// Palette says whether texts are coloured. The zero value colours none.
type Palette struct{ colored bool }

// PaletteOf returns the palette for a writer: colours are for terminals, unless
// NO_COLOR is set to anything or TERM is dumb.
func PaletteOf(out io.Writer) Palette {
	return Palette{IsTerminal(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// paint colours a text. The text has no control characters.
func (p Palette) paint(text string, c color) string {
	if !p.colored || c == "" || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// Failed, Done and Notice colour a text that tells of a failure, of a success, and of
// something that the reader is to know.
func (p Palette) Failed(text string) string { return p.paint(text, failed) }

// Done is described at Failed.
func (p Palette) Done(text string) string { return p.paint(text, done) }

// Notice is described at Failed.
func (p Palette) Notice(text string) string { return p.paint(text, notice) }

// line is one line of a picture. What follows its name may have a colour.
type line struct {
	name, rest string
	color      color
}

func plain(text string) line { return line{name: text} }

func (l line) text() string { return l.name + l.rest }

// painted returns the line as shown, of which text is what there is room for.
func (l line) painted(p Palette, text string) string {
	rest, ok := strings.CutPrefix(text, l.name)
	if !ok { // it is cut within its name
		return text
	}
	return l.name + p.paint(rest, l.color)
}

// colorOf is the colour of how a job has ended.
func colorOf(s puller.State) color {
	switch s {
	case puller.StateSucceeded:
		return done
	case puller.StateFailed:
		return failed
	case puller.StateCanceled:
		return notice
	}
	return ""
}
