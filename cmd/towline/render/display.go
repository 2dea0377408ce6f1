package render

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/towline/towline/puller"
)

// Display shows what happens to jobs. It is not safe for concurrent use.
type Display interface {
	// Show takes the next event of a job. The job is the one that was accepted, not
	// its present state. The jobs of a prewarm may come beside the prewarm's own.
	Show(j *puller.Job, e puller.Event)
	// Refuse says that the daemon has not accepted an image that the display expects.
	Refuse(image string, err error)
	// Close removes what is only shown while jobs run, and shows how they ended.
	Close()
}

// New returns a display for people: progress bars on a terminal, plain lines
// elsewhere. images are those that are going to be asked for, in their order.
func New(out io.Writer, images ...string) Display {
	if IsTerminal(out) && os.Getenv("TERM") != "dumb" {
		return newBars(out, PaletteOf(out), func() (int, int, error) { return term.GetSize(int(out.(*os.File).Fd())) }, images)
	}
	d := &lines{out: out}
	d.images.expect(images)
	return d
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
func (d jsonLines) Refuse(string, error)               {}
func (d jsonLines) Close()                             {}

// References returns a display that writes the images which were proven at its end, in
// the order of images: each as its reference with its digest, or its ID where it has
// none.
func References(out io.Writer, images ...string) Display {
	d := &references{out: out}
	d.images.expect(images)
	return d
}

type references struct {
	out    io.Writer
	images rows
}

func (d *references) Show(j *puller.Job, e puller.Event) { d.images.take(j, e) }
func (d *references) Refuse(image string, err error)     { d.images.refuse(image, err) }
func (d *references) Close() {
	for _, r := range d.images.all {
		if r.end == nil || r.end.State != puller.StateSucceeded || r.end.Result == nil {
			continue
		}
		if name := Reference(r.image, r.end.Result); name != "" {
			fmt.Fprintln(d.out, SafeText(name))
		}
	}
}

// Reference returns an image's name with its proven digest, its ID where it has none.
func Reference(image string, r *puller.Result) string {
	switch name, _, _ := strings.Cut(image, "@"); {
	case r.Digest == "" || strings.HasPrefix(image, "sha256:"):
		return r.ImageID
	default:
		return name + "@" + r.Digest
	}
}

// Silent shows nothing.
type Silent struct{}

// Show implements [Display].
func (Silent) Show(*puller.Job, puller.Event) {}

// Refuse implements [Display].
func (Silent) Refuse(string, error) {}

// Close implements [Display].
func (Silent) Close() {}
