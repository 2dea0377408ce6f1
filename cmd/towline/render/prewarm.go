package render

import (
	"fmt"
	"io"
	"time"

	"github.com/towline/towline/puller"
)

// prewarmLines shows a prewarm in a log: its states, the end of each image, and
// the totals every totalsEvery.
type prewarmLines struct {
	out    io.Writer
	totals *totals
	at     time.Time // when the totals were printed last
}

func (d *prewarmLines) Close() {}

func (d *prewarmLines) Show(j *puller.Job, e puller.Event) {
	if d.totals == nil {
		d.totals, d.at = newTotals(j), e.Time
		d.print(fmt.Sprintf("prewarm: job %s, %s", j.ID, Count(d.totals.images, "image")))
	}
	line := prewarmLine(d.totals, e)
	switch {
	case line != "":
		d.print(line)
	case e.Type == "state" && !e.State.Ended():
		d.print("prewarm: " + describeState(e))
	case e.Time.Sub(d.at) >= totalsEvery:
		d.at = e.Time
		d.print(fmt.Sprintf("prewarm: %s, downloaded %s", d.totals, d.totals.describeProgress()))
	}
}

func (d *prewarmLines) print(text string) { fmt.Fprintln(d.out, SafeText(text)) }

// prewarmLine adds an event to the totals, and returns its line, "" for a state or
// progress.
func prewarmLine(t *totals, e puller.Event) string {
	switch ended := t.add(e); {
	case ended:
		return e.Message
	case e.Type == "notice":
		return "prewarm: " + e.Message
	case e.Result != nil:
		return "prewarm: " + t.describeEnd(e.Result)
	}
	return ""
}

// prewarmBar shows a prewarm on a terminal: a line that stays for each image that
// has ended, and one bar for all below them.
type prewarmBar struct {
	*screen
	totals *totals
	state  string
	ended  bool
}

func (d *prewarmBar) Show(j *puller.Job, e puller.Event) {
	if d.totals == nil {
		d.totals = newTotals(j)
	}
	line := prewarmLine(d.totals, e)
	if e.Type == "state" && !e.State.Ended() {
		d.state = describeState(e)
	}
	d.ended = d.ended || e.Result != nil
	if e.Type != "layer" || d.due() {
		d.draw(SafeText(line), d.picture)
	}
}

func (d *prewarmBar) Close() { d.clear() }

func (d *prewarmBar) picture(columns, _ int) []string {
	if d.ended {
		return nil
	}
	lines := []string{fmt.Sprintf("%s, %s", SafeText(d.state), d.totals)}
	p := d.totals.progress
	if p.Layers == 0 {
		return lines
	}
	text := d.totals.describeProgress()
	room := min(columns-len(text)-len("[] "), 40)
	if room < 5 || p.Total <= 0 {
		return append(lines, text)
	}
	return append(lines, bar(p.Downloaded, p.Total, room)+" "+text)
}
