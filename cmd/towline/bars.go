package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

// bars shows every image and its layers on a terminal, drawn over in place.
type bars struct {
	out   io.Writer
	size  func() (width, height int, err error) // of the terminal, as it is now
	jobs  []*barJob
	drawn int // lines that the next drawing goes over
	at    time.Time
}

type barJob struct {
	image    string
	state    string
	notice   string
	progress pullstream.Totals
	layers   []pullstream.Layer
	ended    bool
}

// drawEvery bounds how often the screen is drawn.
const drawEvery = 50 * time.Millisecond

func newBars(out *os.File) *bars {
	return &bars{out: out, size: func() (int, int, error) { return term.GetSize(int(out.Fd())) }}
}

func (d *bars) show(j *puller.Job, e puller.Event) {
	b := d.job(j)
	switch e.Type {
	case "state":
		if e.Attempt > 0 && e.Phase == puller.PhaseResolving {
			b.layers, b.progress = nil, pullstream.Totals{}
		}
		if !e.State.Ended() {
			b.state = describeState(e)
		}
	case "notice":
		b.notice = e.Message
	case "layer":
		b.progress, b.notice = *e.Progress, ""
		i := slices.IndexFunc(b.layers, func(l pullstream.Layer) bool { return l.ID == e.Layer.ID })
		if i < 0 {
			b.layers = append(b.layers, *e.Layer)
		} else {
			b.layers[i] = *e.Layer
		}
	case "result":
		b.state, b.ended = describeEnd(*e.Result), true
	}
	if e.Type != "layer" || time.Since(d.at) >= drawEvery {
		d.draw()
	}
}

func (d *bars) job(j *puller.Job) *barJob {
	for _, b := range d.jobs {
		if b.image == j.Image {
			return b
		}
	}
	b := &barJob{image: j.Image}
	d.jobs = append(d.jobs, b)
	return b
}

func (d *bars) end() { d.draw() }

// draw writes the whole picture over the last one. Every line is cut to the
// terminal's width: one that wrapped would be counted wrong.
func (d *bars) draw() {
	width, height, err := d.size()
	if err != nil || width < 20 || height < 2 {
		width, height = 80, 24
	}
	lines := d.lines()
	if len(lines) > height-1 {
		// What does not fit is left out; the images' own lines stay.
		lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "  ") })
		lines = lines[:min(len(lines), height-1)]
	}
	var s strings.Builder
	if d.drawn > 0 {
		fmt.Fprintf(&s, "\x1b[%dA", d.drawn)
	}
	s.WriteString("\r\x1b[J")
	for _, l := range lines {
		s.WriteString(cut(l, width-1) + "\n")
	}
	io.WriteString(d.out, s.String())
	d.drawn, d.at = len(lines), time.Now()
}

func (d *bars) lines() []string {
	var lines []string
	for _, b := range d.jobs {
		line := printable(b.image) + ": " + printable(b.state)
		if !b.ended && b.progress.Downloaded > 0 {
			line += ", " + describeTotals(b.progress)
		}
		lines = append(lines, line)
		if b.ended {
			continue
		}
		if b.notice != "" {
			lines = append(lines, "  "+printable(b.notice))
		}
		for _, l := range b.layers {
			lines = append(lines, fmt.Sprintf("  %s  %s %s", printable(l.ID), bar(l), l.Phase))
		}
	}
	return lines
}

// bar draws how far the layer's present phase is.
func bar(l pullstream.Layer) string {
	const width = 24
	done := 0
	size := strings.Repeat(" ", 21)
	switch {
	case l.Phase.Done():
		done = width
	case l.Total > 0:
		done = int(min(width, width*l.Current/l.Total))
	}
	if l.Total > 0 {
		size = fmt.Sprintf("%9s / %9s", bytesOf(l.Current), bytesOf(l.Total))
	}
	return "[" + strings.Repeat("#", done) + strings.Repeat(".", width-done) + "] " + size
}

func cut(s string, width int) string {
	if r := []rune(s); len(r) > width {
		return string(r[:width-1]) + "…"
	}
	return s
}
