package render

import (
	"fmt"
	"io"

	"github.com/towline/towline/puller"
)

// Run shows a run: what its program prints, and on Notices how its pull goes and
// what went wrong with the container. It is a [Display].
type Run struct {
	Stdout, Stderr io.Writer // of the program
	Notices        io.Writer
	Quiet          bool    // no notice but those of a fault
	Pull           Display // of the image, on the terminal or log of Notices

	pulling   bool // Pull shows something
	contained bool // the pull is over, and the events are those of the container
}

// Show implements [Display].
func (d *Run) Show(j *puller.Job, e puller.Event) {
	switch e.Type {
	case "log":
		d.print(e)
	case "notice":
		switch lost := e.Seq == 0; { // a notice without a number is about lost output
		case lost, d.contained && !d.Quiet:
			d.notice(e.Message)
		case !d.contained:
			d.pull(j, e)
		}
	case "layer":
		if !d.contained {
			d.pull(j, e)
		}
	case "state":
		d.state(j, e)
	case "result":
		d.Close()
		if r := e.Result.Result; r != nil && r.OOMKilled {
			d.notice("the program ran out of memory and was killed; give it more with --memory")
		}
	}
}

func (d *Run) state(j *puller.Job, e puller.Event) {
	switch e.Phase {
	case puller.PhaseCreating, puller.PhaseRunning, puller.PhaseRemoving:
		d.contained = true
		d.Close()
		return
	}
	d.contained = false
	// An image that is present is no news.
	if d.pulling || e.Phase == puller.PhasePulling {
		d.pull(j, e)
	}
}

func (d *Run) pull(j *puller.Job, e puller.Event) {
	d.pulling = true
	d.Pull.Show(j, e)
}

func (d *Run) print(e puller.Event) {
	d.Close()
	if e.Text == nil {
		return
	}
	text, err := e.Bytes()
	if err != nil {
		d.notice("some of the program's output can't be decoded: " + err.Error())
		return
	}
	if e.Stream == puller.Stderr {
		d.Stderr.Write(text)
	} else {
		d.Stdout.Write(text)
	}
}

func (d *Run) notice(message string) {
	d.Close()
	fmt.Fprintln(d.Notices, "towline: "+SafeText(message))
}

// Refuse implements [Display]. A run that is not accepted shows nothing.
func (d *Run) Refuse(string, error) {}

// Close implements [Display]. It removes the bars of the pull, so that they are
// not drawn over what the program prints.
func (d *Run) Close() {
	if d.pulling {
		d.pulling = false
		d.Pull.Close()
	}
}
