package render

import (
	"io"

	"github.com/towline/towline/puller"
)

// MaxSequence is the longest sequence that a SafeWriter leaves out, in characters.
const MaxSequence = maxSequence

// NewSized returns what New returns for a terminal of the size.
func NewSized(out io.Writer, kind puller.JobKind, size func() (columns, rows int, err error)) Display {
	s := &screen{out: out, size: size}
	if kind == puller.JobPrewarm {
		return &prewarmBar{screen: s}
	}
	return &bars{screen: s}
}

// FormatBytes writes a size.
func FormatBytes(n int64) string { return formatBytes(n) }

// Totals counts the images of a prewarm.
type Totals struct{ *totals }

// NewTotals returns the totals of a prewarm.
func NewTotals(j *puller.Job) Totals { return Totals{newTotals(j)} }

// Add takes in an event.
func (t Totals) Add(e puller.Event) bool { return t.add(e) }
