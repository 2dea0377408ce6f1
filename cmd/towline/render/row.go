package render

import (
	"slices"
	"strings"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

// row is one image on a display.
type row struct {
	id       string // of its job, "" before the daemon has accepted it
	image    string
	state    puller.State
	phase    puller.Phase
	attempt  int
	notice   string // until the next progress
	progress pullstream.Totals
	layers   []pullstream.Layer
	end      *puller.Job // how it ended, nil before
	told     bool        // its own result has come; end may come from a prewarm before
}

// take takes in an event of the row's job.
func (r *row) take(e puller.Event) {
	switch e.Type {
	case "state":
		if e.Attempt > 0 && e.Phase == puller.PhaseResolving {
			r.layers, r.progress = nil, pullstream.Totals{}
		}
		if !e.State.Ended() {
			r.state, r.phase, r.attempt = e.State, e.Phase, e.Attempt
		}
	case "notice":
		r.notice = e.Message
	case "layer":
		if e.Layer == nil {
			return
		}
		r.notice = ""
		if e.Progress != nil {
			r.progress = *e.Progress
		}
		i := slices.IndexFunc(r.layers, func(l pullstream.Layer) bool { return l.ID == e.Layer.ID })
		if i < 0 {
			r.layers = append(r.layers, *e.Layer)
		} else {
			r.layers[i] = *e.Layer
		}
	case "result":
		r.finish(e.Result)
		r.told = true
	}
}

func (r *row) finish(j *puller.Job) { r.end, r.notice, r.layers = j, "", nil }

// active reports whether something happens for the image.
func (r *row) active() bool { return r.end == nil && r.state == puller.StateActive }

// rows are the images of a display, in the order in which they were asked for.
type rows struct {
	all     []*row
	byID    map[string]*row
	prewarm *row // the job that the images are part of, nil where there is none
}

// expect adds images that are going to be asked for.
func (d *rows) expect(images []string) {
	for _, image := range images {
		d.all = append(d.all, &row{image: image})
	}
}

// take takes in an event, and returns the row that it is about. isEnd says that it is
// a prewarm's notice of how one of its images ended.
func (d *rows) take(j *puller.Job, e puller.Event) (r *row, isEnd bool) {
	if j.Kind != puller.JobPrewarm {
		r = d.of(j)
		r.take(e)
		return r, false
	}
	if d.prewarm == nil {
		d.prewarm = &row{id: j.ID}
		d.order(j)
	}
	if e.Type == "notice" && d.ends(e.Message) {
		return d.prewarm, true
	}
	if e.Result != nil {
		for _, s := range e.Result.Images {
			if r := d.byID[s.Job]; r != nil && !r.told {
				r.finish(endOf(s))
			}
		}
	}
	d.prewarm.take(e)
	return d.prewarm, false
}

// order has a row for each image of a prewarm, in the prewarm's order. The events of some
// images may have come before the prewarm's first one.
func (d *rows) order(prewarm *puller.Job) {
	early := d.all
	d.all = nil
	for _, s := range prewarm.Images {
		switch r := d.byID[s.Job]; {
		case s.Service != "":
		case r != nil && s.Job != "":
			d.all = append(d.all, r)
		default:
			d.add(&row{id: s.Job, image: s.Image})
		}
	}
	for _, r := range early {
		if !slices.Contains(d.all, r) {
			d.all = append(d.all, r)
		}
	}
}

// of returns the row of a job.
func (d *rows) of(j *puller.Job) *row {
	if r := d.byID[j.ID]; r != nil {
		return r
	}
	for _, r := range d.all {
		if r.id == "" && r.end == nil && r.image == j.Image {
			r.id = j.ID
			d.note(r)
			return r
		}
	}
	r := &row{id: j.ID, image: j.Image}
	d.add(r)
	return r
}

func (d *rows) add(r *row) {
	d.all = append(d.all, r)
	d.note(r)
}

func (d *rows) note(r *row) {
	if d.byID == nil {
		d.byID = make(map[string]*row)
	}
	d.byID[r.id] = r
}

// refuse ends the row of an image that the daemon has not accepted.
func (d *rows) refuse(image string, err error) {
	for _, r := range d.all {
		if r.id == "" && r.end == nil && r.image == image {
			r.finish(&puller.Job{Image: image, State: puller.StateFailed, Error: puller.NewJobError(err)})
			return
		}
	}
}

// ends takes in a notice of a prewarm. It reports whether it is the end of an image,
// "IMAGE: STATE (…". The image's own job tells more.
func (d *rows) ends(message string) bool {
	image, rest, _ := strings.Cut(message, ": ")
	word, _, _ := strings.Cut(rest, " (")
	state := puller.State(word)
	if !state.Ended() {
		return false
	}
	known := false
	for _, r := range d.all {
		if r.image != image {
			continue
		}
		known = true
		if r.end == nil {
			r.finish(&puller.Job{Image: image, State: state})
			break
		}
	}
	return known
}

// endOf is what a prewarm tells of the end of an image.
func endOf(s puller.ImageState) *puller.Job {
	j := &puller.Job{ID: s.Job, Image: s.Image, State: s.State, Error: s.Error}
	if s.Source != "" {
		j.Result = &puller.Result{Source: s.Source}
	}
	return j
}

func (d *rows) anyEnded() bool {
	return slices.ContainsFunc(d.all, func(r *row) bool { return r.end != nil })
}
