package puller

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/towline/towline/stream"
	"github.com/towline/towline/stream/pullstream"
)

// batch is what a prewarm is beside a job. Its fields up to mu are guarded by
// Puller.mu.
type batch struct {
	failFast bool
	skipped  []Skipped
	children []*job       // in the order they were asked for; nil for those that have ended
	images   []ImageState // of the children
	left     int          // children that have not ended
	stopped  error        // why the rest was canceled
	canceled bool         // it was, by a caller

	mu     sync.Mutex
	sum    pullstream.CombinedProgress
	board  *stream.Latest
	silent map[transferKey]int // how many children want what no layer is known of
}

// Prewarm accepts a job that pulls many images, each as a job of its own, and
// returns it. It and its children are on disk by then. The error is
// ErrInvalidRequest, naming the field, ErrForbidden, naming the image and the rule,
// ErrConflict, or ErrOverloaded.
func (p *Puller) Prewarm(r PrewarmRequest) (Job, error) {
	asked := r
	r, err := r.withDefaults(p.opts)
	if err == nil {
		err = p.checkRivals(r.Images)
	}
	if err != nil {
		return Job{}, err
	}
	parent := p.newJob()
	parent.view.Kind, parent.view.Priority = JobPrewarm, r.Priority
	parent.caller, parent.idempotency = r.Caller, keyOf(r.Caller, r.IdempotencyKey)
	parent.private = r.Credentials != Credentials{}
	parent.key.identity = r.Credentials.Identity(p.key)
	asked.Images, asked.Platform = slices.Clone(asked.Images), r.Platform
	for i := range asked.Images {
		one := &asked.Images[i]
		if one.Image = r.Images[i].Image; one.Platform != "" {
			one.Platform = r.Images[i].Platform
		}
	}
	parent.fingerprint = fingerprint(parent, struct {
		PrewarmRequest
		Skipped []Skipped
	}{asked, r.Skipped})
	family := []*job{parent}
	for _, image := range r.Images {
		child := p.newPull(image)
		child.counted = child.count(0, nil)
		family = append(family, child)
	}
	parent.batch = p.newBatch(Prewarm{FailFast: r.FailFast, Skipped: r.Skipped}, family[1:])
	parent.counted = parent.count(len(r.Images), r.Skipped)
	parent.topic.ShowLatest(parent.batch.board)
	return p.accept(family...)
}

func (p *Puller) newBatch(w Prewarm, children []*job) *batch {
	b := &batch{
		failFast: w.FailFast, skipped: w.Skipped, children: children, left: len(children),
		images: make([]ImageState, len(children)), board: stream.NewLatest(&p.seq), silent: make(map[transferKey]int),
	}
	for _, j := range children {
		if j != nil {
			b.silent[j.key]++
		}
	}
	return b
}

// describe fills in what the job of a prewarm says of its children.
func (b *batch) describe(v *Job) {
	v.Images = make([]ImageState, 0, len(b.images)+len(b.skipped))
	for i, j := range b.children {
		if s := b.images[i]; s.State != "" {
			v.Images = append(v.Images, s)
		} else {
			v.Images = append(v.Images, imageState(&j.view))
		}
	}
	for _, s := range b.skipped {
		v.Images = append(v.Images, ImageState{Service: s.Service, State: "skipped", Reason: s.Reason})
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	totals := b.totals(time.Now())
	v.Progress = &totals
}

// ended returns what became of the children that have ended.
func (b *batch) ended() (all []ImageState) {
	for _, s := range b.images {
		if s.State != "" {
			all = append(all, s)
		}
	}
	return all
}

// maxImageMessage bounds what a prewarm keeps of each image's error, in bytes.
const maxImageMessage = 1 << 10

func imageState(v *Job) ImageState {
	s := ImageState{Job: v.ID, Image: v.Image, State: v.State, Error: v.Error}
	if v.Error != nil && len(v.Error.Message) > maxImageMessage { // the child has all of it
		e := *v.Error
		e.Message = ClipTo(e.Message, maxImageMessage)
		s.Error = &e
	}
	if v.Result != nil {
		s.Source = v.Result.Source
	}
	return s
}

// totals is called with mu held.
func (b *batch) totals(now time.Time) pullstream.Totals {
	return b.sum.Totals(now, len(b.silent) > 0)
}

// put takes in a layer of a transfer that children are part of. It may be
// called from anywhere.
func (b *batch) put(key transferKey, l pullstream.Layer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.silent, key)
	now := time.Now() // here, so that it does not run backwards
	l = b.sum.Put(l, now)
	totals := b.totals(now)
	b.board.Set(l.ID, LayerFrame(l, &totals))
}

// expect takes in what a manifest says of an image's layers.
func (b *batch) expect(key transferKey, layers []Blob) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.silent, key)
	for _, l := range layers {
		b.sum.Expect(layerID(l.Digest), l.Size)
	}
}

// layerID returns the ID by which engines tell of a layer: the first twelve
// digits of its blob's digest.
func layerID(digest string) string {
	_, digits, _ := strings.Cut(digest, ":")
	return digits[:min(len(digits), 12)]
}

// hush takes back that a child is going to be told of a transfer.
func (b *batch) hush(key transferKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.silent[key]--; b.silent[key] <= 0 {
		delete(b.silent, key)
	}
}
