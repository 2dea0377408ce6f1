package render

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

// bars shows jobs on a terminal while they run: a line for each image, in the order in
// which they were asked for, with those of its layers that are worked on below it. At
// the end a line for each image stays, with its digest.
type bars struct {
	*screen

	mu     sync.Mutex // of all here: the timer draws beside the caller
	images rows
	later  *time.Timer // draws what came too soon after the last picture; nil: nothing did
}

func newBars(out io.Writer, palette Palette, size func() (columns, rows int, err error), images []string) *bars {
	d := &bars{screen: &screen{out: out, palette: palette, size: size}}
	if d.images.expect(images); len(images) > 0 {
		d.draw(d.picture)
	}
	return d
}

func (d *bars) Show(j *puller.Job, e puller.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.images.take(j, e)
	switch wait := d.wait(); {
	case e.Type != "layer" || wait <= 0:
		d.redraw()
	case d.later == nil:
		// What comes last before a silence would not be seen until its end.
		var timer *time.Timer
		timer = time.AfterFunc(wait, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.later == timer {
				d.redraw()
			}
		})
		d.later = timer
	}
}

func (d *bars) Refuse(image string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.images.refuse(image, err)
	d.redraw()
}

func (d *bars) redraw() {
	d.settle()
	d.draw(d.picture)
}

// settle has nothing be drawn later.
func (d *bars) settle() {
	if d.later != nil {
		d.later.Stop()
		d.later = nil
	}
}

func (d *bars) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settle()
	var ends []line
	for _, r := range d.images.all {
		if r.end != nil {
			ends = append(ends, line{SafeText(r.image + ": "), SafeText(describeEnd(*r.end)), colorOf(r.end.State)})
		}
	}
	if p := d.images.prewarm; p != nil && p.end != nil {
		ends = append(ends, line{"", SafeText(d.images.prewarmLine(anyLength)), colorOf(p.end.State)})
	}
	d.finish(ends)
	d.images = rows{}
}

// picture returns the lines of the images and, of a prewarm, a line for all. Where the
// rows are too few, it leaves out layers and notices first, and then images: those that
// have ended, and those that wait.
func (d *bars) picture(columns, rows int) []line {
	var last []line
	if d.images.prewarm != nil {
		last = append(last, plain(SafeText(d.images.prewarmLine(columns))))
		if n := d.images.prewarm.notice; n != "" && rows > 4 {
			last = append(last, line{"", SafeText(n), notice})
		}
	}
	shown := d.images.all
	if room := rows - len(last); len(shown) > room {
		shown = choose(shown, max(0, room-1))
		last = append([]line{plain(d.hidden(shown))}, last...)
	}
	room := rows - len(last) - len(shown) // for layers and notices
	names := 0
	for _, r := range shown {
		names = max(names, columnsOf(SafeText(familiar(r.image))))
	}
	var lines []line
	for _, r := range shown {
		lines = append(lines, r.line(columns, names))
		if r.notice != "" && room > 0 {
			lines, room = append(lines, line{"  ", SafeText(r.notice), notice}), room-1
		}
		for _, l := range r.layers {
			if room > 0 && r.phase == puller.PhasePulling && (l.Phase == pullstream.Downloading || l.Phase == pullstream.Verifying || l.Phase == pullstream.Extracting) {
				lines, room = append(lines, plain(layerLine(l, columns))), room-1
			}
		}
	}
	lines = append(lines, last...)
	return lines[max(0, len(lines)-rows):]
}

// choose returns at most n rows in their order: those that are active, then those that
// wait, then those that have ended.
func choose(all []*row, n int) []*row {
	take := make(map[*row]bool)
	for _, wanted := range []func(*row) bool{
		(*row).active, func(r *row) bool { return r.end == nil }, func(*row) bool { return true },
	} {
		for _, r := range all {
			if len(take) < n && wanted(r) {
				take[r] = true
			}
		}
	}
	chosen := make([]*row, 0, len(take))
	for _, r := range all {
		if take[r] {
			chosen = append(chosen, r)
		}
	}
	return chosen
}

// hidden says which images the picture leaves out.
func (d *bars) hidden(shown []*row) string {
	visible := make(map[*row]bool)
	for _, r := range shown {
		visible[r] = true
	}
	ended, waiting := 0, 0
	for _, r := range d.images.all {
		switch {
		case visible[r]:
		case r.end != nil:
			ended++
		default:
			waiting++
		}
	}
	return fmt.Sprintf("and %s more: %d done, %d to come", Count(ended+waiting, "image"), ended, waiting)
}

// familiar is an image's name as people write it: without Docker Hub's.
func familiar(image string) string {
	if rest, ok := strings.CutPrefix(image, "docker.io/library/"); ok {
		return rest
	}
	return strings.TrimPrefix(image, "docker.io/")
}

// The widths of what a line shows of a download.
const (
	sizeColumns = 14 // "123.4/456.7 MB"
	rateColumns = 10 // "123.4 MB/s"
	leftColumns = 11 // "59m59s left"
	allColumns  = len("100%") + 2 + sizeColumns + 2 + rateColumns + 2 + leftColumns
	leastName   = 18
	leastBar    = 8
	mostBar     = 24
)

// line is the row's line. A long name is shortened in its middle; the part, the bytes,
// the rate and the time that is left stay. names is how many columns the longest name of
// the picture takes.
func (r *row) line(columns, names int) line {
	name := SafeText(familiar(r.image))
	label := r.phaseName()
	if r.end != nil {
		label = describeEndShort(*r.end)
	}
	downloads := r.end == nil && r.downloading() && columns >= leastName+2+allColumns
	room := columns - 2 - allColumns // for the name and a bar
	wide := max(leastName, min(names, room-2-leastBar-2))
	if !downloads {
		if parts := r.amounts(); r.end == nil && len(parts) > 0 {
			label = strings.TrimSuffix(strings.Join(parts, " "), " left")
			if !r.downloading() {
				label = r.phaseName() + ", " + label
			}
		}
		label = SafeText(label)
		if columns < leastName+2+allColumns { // a narrow terminal
			wide = min(names, 8)
		}
		l := line{name: pad(cutMiddle(name, max(wide, columns-2-columnsOf(label))), wide) + "  ", rest: label}
		if r.end != nil {
			l.color = colorOf(r.end.State)
		}
		return l
	}
	t := r.progress
	rate, left := "", ""
	if t.Rate > 0 {
		rate = formatBytes(t.Rate) + "/s"
	}
	if t.ETASeconds != nil {
		left = formatLeft(*t.ETASeconds) + " left"
	}
	text := pad(cutMiddle(name, wide), wide) + "  "
	if n := min(mostBar, room-wide-len("  []")); n >= leastBar {
		text += bar(t.Downloaded, t.Total, n) + "  "
	}
	return plain(text + strings.TrimRight(fmt.Sprintf("%3d%%  %*s  %*s  %*s", percent(t), sizeColumns, formatPart(t.Downloaded, t.Total), rateColumns, rate, leftColumns, left), " "))
}

// layerLine returns a layer's line: its ID and phase, how much of the phase is
// done, and as much of a bar and the bytes as there is room for.
func layerLine(l pullstream.Layer, columns int) string {
	const least, most = 5, 24 // of a bar
	line := fmt.Sprintf("  %s %-11s", SafeText(l.ID), l.Phase)
	if l.Total <= 0 {
		return strings.TrimRight(line, " ")
	}
	line += fmt.Sprintf(" %3d%%", max(0, min(100, int64(100*float64(l.Current)/float64(l.Total)))))
	bytes := "  " + formatPart(l.Current, l.Total)
	switch room := columns - columnsOf(line) - len(" []"); {
	case room-len(bytes) >= least:
		return line + " " + bar(l.Current, l.Total, min(most, room-len(bytes))) + bytes
	case room >= least:
		return line + " " + bar(l.Current, l.Total, min(most, room))
	}
	return line
}
