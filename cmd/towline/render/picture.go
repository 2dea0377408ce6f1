package render

import (
	"io"
	"os"

	"golang.org/x/term"
)

// Line is one line of a Picture.
type Line = line

// PlainLine returns a line without a colour. The text is safe.
func PlainLine(text string) Line { return plain(text) }

// FailedLine and DoneLine return a line that begins with a name and tells of a failure, or
// of a success. The texts are safe.
func FailedLine(name, text string) Line { return line{name, text, failed} }

// DoneLine is described at FailedLine.
func DoneLine(name, text string) Line { return line{name, text, done} }

// A Picture is drawn on a terminal again and again in the same place.
type Picture struct{ screen screen }

// NewPicture returns a picture on a terminal, nil for any other writer.
func NewPicture(out io.Writer) *Picture {
	if !IsTerminal(out) || os.Getenv("TERM") == "dumb" {
		return nil
	}
	return NewPictureOf(out, PaletteOf(out), func() (int, int, error) { return term.GetSize(int(out.(*os.File).Fd())) })
}

// NewPictureOf returns a picture on a terminal of a size.
func NewPictureOf(out io.Writer, palette Palette, size func() (columns, rows int, err error)) *Picture {
	return &Picture{screen{out: out, palette: palette, size: size}}
}

// Draw replaces the picture by the lines that there is room for.
func (p *Picture) Draw(lines func(columns, rows int) []Line) { p.screen.draw(lines) }

// Finish replaces the picture by lines that stay. They may be of any length.
func (p *Picture) Finish(lines []Line) { p.screen.finish(lines) }
