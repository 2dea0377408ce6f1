package main

import (
	"fmt"
	"io"

	"github.com/towline/towline/puller"
)

// console passes on what a run's program prints, as it is. What is told beside
// it goes to the standard error: how the pull goes, if there is one, and nothing
// of the container while all is well.
type console struct {
	out, programErrs io.Writer // the program's
	errs             io.Writer // what is told
	quiet            bool
	progress         display // of the pull
	pulling          bool    // it shows something
	contained        bool    // the pull is over
}

func (d *console) show(j *puller.Job, e puller.Event) {
	switch e.Type {
	case "log":
		d.print(e)
	case "notice":
		// One that is not on record is of output that this reader has missed.
		if missed := e.Seq == 0; missed || d.contained && !d.quiet {
			d.tell(e.Message)
			return
		}
		d.pull(j, e)
	case "layer":
		d.pull(j, e)
	case "state":
		switch e.Phase {
		case puller.PhaseCreating, puller.PhaseRunning, puller.PhaseRemoving:
			d.contained = true
			d.end()
		case puller.PhasePulling:
			d.contained = false
			d.pull(j, e)
		default:
			d.contained = false
			if d.pulling {
				d.pull(j, e)
			}
		}
	case "result":
		d.end()
		if r := e.Result.Result; r != nil && r.OOMKilled {
			d.tell("the program was killed for want of memory")
		}
	}
}

// pull shows how the pull goes.
func (d *console) pull(j *puller.Job, e puller.Event) {
	if !d.contained {
		d.pulling = true
		d.progress.show(j, e)
	}
}

func (d *console) print(e puller.Event) {
	d.end()
	if e.Text == nil {
		return
	}
	text, err := e.Bytes()
	if err != nil {
		d.tell("some of what the program prints can't be read: " + err.Error())
		return
	}
	if e.Stream == puller.Stderr {
		d.programErrs.Write(text)
	} else {
		d.out.Write(text)
	}
}

func (d *console) tell(message string) {
	d.end()
	fmt.Fprintln(d.errs, "towline: "+printable(message))
}

// end takes the bars away, so that nothing is drawn over what comes next.
func (d *console) end() {
	if !d.pulling {
		return
	}
	d.pulling = false
	if b, ok := d.progress.(*bars); ok {
		b.jobs = nil
	}
	d.progress.end()
}
