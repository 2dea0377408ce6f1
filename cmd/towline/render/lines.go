package render

import (
	"fmt"
	"io"
	"time"

	"github.com/towline/towline/puller"
)

// lineEvery is how often a log gets a line of one image's progress.
const lineEvery = 3 * time.Second

// lines shows jobs in a log, without control characters: for each image a line every
// lineEvery while it changes, its notices and its end, and a table of all images at
// the end.
type lines struct {
	out    io.Writer
	images rows
	last   map[*row]printed
}

// printed is the last line of a row's progress.
type printed struct {
	text string
	at   time.Time
}

func (d *lines) Show(j *puller.Job, e puller.Event) {
	first := d.images.prewarm == nil
	r, isEnd := d.images.take(j, e)
	whole := r == d.images.prewarm
	if whole && first {
		d.print("prewarm", fmt.Sprintf("job %s, %s", j.ID, Count(len(d.images.all), "image")))
	}
	switch {
	case isEnd: // the image's own result has its line
	case e.Type == "notice":
		d.print(d.name(r), e.Message)
	case e.Type == "result" && !whole:
		d.print(r.image, describeEnd(*r.end))
	case e.Type == "result":
		for _, r := range d.images.all {
			if r.end != nil && !r.told {
				d.print(r.image, describeEnd(*r.end))
			}
		}
		fmt.Fprintln(d.out, SafeText(d.images.prewarmLine(anyLength)))
	case whole || d.images.prewarm == nil || r.phase == puller.PhasePulling:
		d.progress(r, e.Time)
	}
}

// progress prints what a row is at, if that has changed and its last line is old.
func (d *lines) progress(r *row, now time.Time) {
	if r.end != nil || r.state == "" {
		return
	}
	text := r.status()
	if r == d.images.prewarm {
		text = d.images.prewarmLine(anyLength)
	}
	last, known := d.last[r]
	if known && (text == last.text || now.Sub(last.at) < lineEvery) {
		return
	}
	if d.last == nil {
		d.last = make(map[*row]printed)
	}
	d.last[r] = printed{text, now}
	if r == d.images.prewarm {
		fmt.Fprintln(d.out, SafeText(text))
	} else {
		d.print(r.image, text)
	}
}

func (d *lines) name(r *row) string {
	if r == d.images.prewarm {
		return "prewarm"
	}
	return r.image
}

func (d *lines) print(name, text string) {
	fmt.Fprintf(d.out, "%s: %s\n", SafeText(name), SafeText(text))
}

func (d *lines) Refuse(image string, err error) { d.images.refuse(image, err) }

func (d *lines) Close() {
	if d.images.prewarm != nil && d.images.prewarm.end != nil || len(d.images.all) > 1 && d.images.anyEnded() {
		d.images.writeTable(d.out)
	}
	d.images, d.last = rows{}, nil
}
