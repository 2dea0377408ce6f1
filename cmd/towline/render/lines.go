package render

import (
	"fmt"
	"io"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

// totalsEvery is how often a log gets the totals of a long download.
const totalsEvery = 10 * time.Second

// lines shows pulls in a log: one line per change, without control characters.
type lines struct {
	out    io.Writer
	phases map[string]pullstream.Phase // the last printed phase of each job's layers
	totals map[string]time.Time        // when each job's totals were printed last
}

func newLines(out io.Writer) *lines {
	return &lines{out: out, phases: make(map[string]pullstream.Phase), totals: make(map[string]time.Time)}
}

func (d *lines) Close() {}

func (d *lines) Show(j *puller.Job, e puller.Event) {
	switch e.Type {
	case "state":
		if !e.State.Ended() {
			d.print(j, describeState(e))
		}
	case "notice":
		d.print(j, e.Message)
	case "layer":
		d.layer(j, e)
	case "result":
		d.print(j, describeEnd(*e.Result))
	}
}

func (d *lines) print(j *puller.Job, text string) {
	fmt.Fprintf(d.out, "%s: %s\n", SafeText(j.Image), SafeText(text))
}

func (d *lines) layer(j *puller.Job, e puller.Event) {
	key := j.ID + e.Layer.ID
	last, known := d.phases[key]
	d.phases[key] = e.Layer.Phase
	switch p := e.Layer.Phase; {
	case known && p == last, p == pullstream.Waiting, p == pullstream.Verifying:
	case p == pullstream.Downloading && e.Layer.Total > 0:
		d.print(j, fmt.Sprintf("layer %s: %s, %s", e.Layer.ID, p, formatBytes(e.Layer.Total)))
	default:
		d.print(j, fmt.Sprintf("layer %s: %s", e.Layer.ID, p))
	}
	if t := e.Progress; t != nil && e.Layer.Phase == pullstream.Downloading {
		if last, known := d.totals[j.ID]; !known {
			d.totals[j.ID] = e.Time
		} else if e.Time.Sub(last) >= totalsEvery {
			d.totals[j.ID] = e.Time
			d.print(j, describeDownload(*t))
		}
	}
}
