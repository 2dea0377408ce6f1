package render

import (
	"encoding/json"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/towline/towline/puller"
)

// Display shows what happens to jobs. It is not safe for concurrent use.
type Display interface {
	// Show takes the next event of a job. The job is the one that was accepted, not
	// its present state.
	Show(j *puller.Job, e puller.Event)
	// Close removes what is only shown while jobs run.
	Close()
}

// New returns a display for people: progress bars on a terminal, plain lines
// elsewhere. kind is the kind of all its jobs.
func New(out io.Writer, kind puller.JobKind) Display {
	if IsTerminal(out) {
		s := &screen{out: out, size: func() (int, int, error) { return term.GetSize(int(out.(*os.File).Fd())) }}
		if kind == puller.JobPrewarm {
			return &prewarmBar{screen: s}
		}
		return &bars{screen: s}
	}
	if kind == puller.JobPrewarm {
		return &prewarmLines{out: out}
	}
	return newLines(out)
}

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// JSONLines returns a display that writes every event as one line of JSON.
func JSONLines(out io.Writer) Display { return jsonLines{NewJSON(out)} }

type jsonLines struct{ out *json.Encoder }

func (d jsonLines) Show(_ *puller.Job, e puller.Event) { d.out.Encode(e) }
func (d jsonLines) Close()                             {}

// Silent shows nothing.
type Silent struct{}

// Show implements [Display].
func (Silent) Show(*puller.Job, puller.Event) {}

// Close implements [Display].
func (Silent) Close() {}
