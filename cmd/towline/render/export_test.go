package render

import (
	"io"

	"github.com/towline/towline/puller"
)

// MaxSequence is the longest sequence that a SafeWriter leaves out, in characters.
const MaxSequence = maxSequence

// NewSized returns what New returns for a terminal of the size.
func NewSized(out io.Writer, size func() (columns, rows int, err error), images ...string) Display {
	return newBars(out, Palette{}, size, images)
}

// NewColored is NewSized with colours.
func NewColored(out io.Writer, size func() (columns, rows int, err error), images ...string) Display {
	return newBars(out, Colored, size, images)
}

// Colored is the palette of a terminal.
var Colored = Palette{true}

// FormatBytes writes a size.
func FormatBytes(n int64) string { return formatBytes(n) }

// Rows are the images of a display.
type Rows struct{ rows }

// Take takes in an event, and returns whether it is the end of an image.
func (d *Rows) Take(j *puller.Job, e puller.Event) bool {
	_, isEnd := d.take(j, e)
	return isEnd
}

// Ready says how many images have ended, and how.
func (d *Rows) Ready() string { return d.ready() }
