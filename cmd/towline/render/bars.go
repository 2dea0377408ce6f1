package render

import (
	"fmt"
	"slices"
	"strings"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

// bars shows pulls on a terminal: a line that stays for each job that has ended,
// and below them the jobs that run, with a bar for each layer.
type bars struct {
	*screen
	running []*runningPull
}

type runningPull struct {
	id, image, state, notice string
	progress                 pullstream.Totals
	layers                   []pullstream.Layer
}

func (d *bars) Show(j *puller.Job, e puller.Event) {
	p := d.pull(j)
	ended := ""
	switch e.Type {
	case "state":
		if e.Attempt > 0 && e.Phase == puller.PhaseResolving {
			p.layers, p.progress = nil, pullstream.Totals{}
		}
		if !e.State.Ended() {
			p.state = describeState(e)
		}
	case "notice":
		p.notice = e.Message
	case "layer":
		p.progress, p.notice = *e.Progress, ""
		i := slices.IndexFunc(p.layers, func(l pullstream.Layer) bool { return l.ID == e.Layer.ID })
		if i < 0 {
			p.layers = append(p.layers, *e.Layer)
		} else {
			p.layers[i] = *e.Layer
		}
	case "result":
		ended = SafeText(p.image + ": " + describeEnd(*e.Result))
		d.running = slices.DeleteFunc(d.running, func(other *runningPull) bool { return other == p })
	}
	if e.Type != "layer" || d.due() {
		d.draw(ended, d.picture)
	}
}

func (d *bars) Close() {
	d.running = nil
	d.clear()
}

func (d *bars) pull(j *puller.Job) *runningPull {
	for _, p := range d.running {
		if p.id == j.ID {
			return p
		}
	}
	p := &runningPull{id: j.ID, image: j.Image}
	d.running = append(d.running, p)
	return p
}

// picture returns the lines of all jobs that run. Where the rows are too few, it
// leaves out the layers first.
func (d *bars) picture(columns, rows int) []string {
	var heads, all []string
	for _, p := range d.running {
		heads = append(heads, p.head(columns))
		all = append(all, heads[len(heads)-1])
		if p.notice != "" {
			all = append(all, "  "+SafeText(p.notice))
		}
		for _, l := range p.layers {
			all = append(all, layerLine(l, columns))
		}
	}
	switch {
	case len(all) <= rows:
		return all
	case len(heads) > rows:
		heads = append(heads[:rows-1], fmt.Sprintf("and %s more", Count(len(heads)-rows+1, "image")))
	}
	return heads
}

// head returns the line of the whole pull. A long image is cut at its front, down
// to minImage columns.
func (p *runningPull) head(columns int) string {
	const minImage = 10
	rest := ": " + SafeText(p.state)
	if p.progress.Downloaded > 0 {
		rest += ", " + describeAmount(p.progress)
	}
	return cutFront(SafeText(p.image), max(minImage, columns-columnsOf(rest))) + rest
}

// layerLine returns a layer's line: its ID and phase, how much of the phase is
// done, and as much of a bar and the bytes as there is room for.
func layerLine(l pullstream.Layer, columns int) string {
	const least, most = 5, 24 // of a bar
	line := fmt.Sprintf("  %s %-11s", SafeText(l.ID), l.Phase)
	part, whole := l.Current, l.Total
	switch {
	case l.Phase.Done():
		part, whole = 1, 1
	case l.Total <= 0:
		return strings.TrimRight(line, " ")
	}
	line += fmt.Sprintf(" %3d%%", min(100, 100*part/whole))
	bytes := ""
	if l.Total > 0 {
		bytes = fmt.Sprintf(" %8s / %s", formatBytes(l.Current), formatBytes(l.Total))
	}
	room := columns - columnsOf(line) - len(" []")
	switch {
	case room-len(bytes) >= least:
		return line + " " + bar(part, whole, min(most, room-len(bytes))) + bytes
	case room >= least:
		return line + " " + bar(part, whole, min(most, room))
	}
	return line
}
