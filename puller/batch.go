package puller

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/stream"
)

// batch is what a prewarm is beside a job. Its fields up to mu are guarded by
// Puller.mu.
type batch struct {
	failFast bool
	skipped  []Skipped
	children []*job       // in the order they were asked for; nil for those that ended before a restart
	images   []ImageState // of the children
	left     int          // children that have not ended
	stopped  error        // why the rest was canceled

	mu     sync.Mutex
	sum    stream.Sum
	board  *stream.Board
	silent map[transferKey]bool // what children want and no layer is known of
}

// Prewarm accepts a job that pulls many images, each as a job of its own, and
// returns it. It and its children are on disk by then. The error is
// InvalidRequest, naming the field, Conflict, or Overloaded.
func (p *Puller) Prewarm(r PrewarmRequest) (Job, error) {
	r, err := r.withDefaults(p.opts)
	if err != nil {
		return Job{}, err
	}
	parent := p.newJob()
	parent.view.Kind, parent.view.Priority = KindPrewarm, r.Priority
	parent.caller, parent.idempotency = r.Caller, r.IdempotencyKey
	parent.private = r.Credentials != Credentials{}
	parent.key.identity = r.Credentials.identity(p.key)
	parent.fingerprint = fingerprint(r, parent.private)
	family := []*job{parent}
	for _, image := range r.Images {
		family = append(family, p.newPull(image))
	}
	parent.batch = p.newBatch(Prewarm{FailFast: r.FailFast, Skipped: r.Skipped}, family[1:])
	parent.topic.Show(parent.batch.board)
	return p.accept(family...)
}

func (p *Puller) newBatch(w Prewarm, children []*job) *batch {
	b := &batch{
		failFast: w.FailFast, skipped: w.Skipped, children: children, left: len(children),
		images: make([]ImageState, len(children)), board: stream.NewBoard(&p.seq), silent: make(map[transferKey]bool),
	}
	for _, j := range children {
		if j != nil {
			b.silent[j.key] = true
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

func imageState(v *Job) ImageState {
	s := ImageState{Job: v.ID, Image: v.Image, State: v.State, Error: v.Error}
	if v.Result != nil {
		s.Source = v.Result.Source
	}
	return s
}

// totals is called with mu held.
func (b *batch) totals(now time.Time) stream.Totals {
	return b.sum.Totals(now, len(b.silent) > 0)
}

// put takes in a layer of a transfer that children are part of. It may be
// called from anywhere.
func (b *batch) put(key transferKey, l stream.Layer, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.silent, key)
	l = b.sum.Put(l, now)
	totals := b.totals(now)
	b.board.Post(l.ID, layerFrame(l, &totals))
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

// hush takes back that more is going to be told of a transfer.
func (b *batch) hush(key transferKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.silent, key)
}

// warm has a prewarm's children do what they are for: those whose image is there
// end, the others wait for their turn.
func (p *Puller) warm(parent *job) {
	b := parent.batch
	p.mu.Lock()
	parent.enter(Active, Resolving, 0)
	var todo []*job
	for _, j := range b.children {
		if j != nil && j.outcome == nil {
			todo = append(todo, j)
		}
	}
	if b.left == 0 {
		p.finishBatch(parent)
	}
	p.unlock()
	todo = p.wanting(todo)
	// Where each has a slot, their order does not matter.
	ordered := len(todo) > p.opts.Concurrency
	if ordered {
		p.longestFirst(b, todo)
	}
	p.mu.Lock()
	if len(todo) > 0 && parent.outcome == nil {
		parent.enter(Active, Pulling, 0)
	}
	for _, j := range todo {
		if j.outcome == nil {
			p.attach(j)
		}
	}
	p.unlock()
	if !ordered {
		p.longestFirst(b, todo)
	}
}

// wanting returns the jobs that want a pull; the others end.
func (p *Puller) wanting(jobs []*job) []*job {
	wants := make([]bool, len(jobs))
	var looks errgroup.Group
	looks.SetLimit(maxChecks)
	for i, j := range jobs {
		looks.Go(func() error {
			if j.orphan {
				p.adopt(j)
			} else {
				wants[i] = j.request.Policy.asks() || p.wants(j)
			}
			return nil
		})
	}
	looks.Wait()
	var left []*job
	for i, j := range jobs {
		if wants[i] {
			left = append(left, j)
		}
	}
	return left
}

// sizesLimit is how long a prewarm waits to be told how large its images are.
const sizesLimit = 3 * time.Second

// longestFirst orders jobs by how much there is to fetch, as far as registries
// tell it for nothing, and has the prewarm's progress expect that much. Those of
// which it is not known come last, in their order.
func (p *Puller) longestFirst(b *batch, jobs []*job) {
	if p.opts.Registry == nil || len(jobs) < 2 {
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, sizesLimit)
	defer cancel()
	engine, err := p.engine.Info(ctx)
	if err != nil {
		return
	}
	requests := make([]PullRequest, len(jobs))
	p.mu.Lock()
	for i, j := range jobs {
		requests[i] = j.request
	}
	p.mu.Unlock()
	var mu sync.Mutex
	sizes := make(map[*job]int64)
	var asks errgroup.Group
	asks.SetLimit(maxAsks)
	for i, j := range jobs {
		asks.Go(func() error {
			m, err := p.manifest(ctx, requests[i], engine.Platform, true)
			if err != nil {
				return nil
			}
			b.expect(j.key, m.Layers)
			mu.Lock()
			defer mu.Unlock()
			for _, l := range m.Layers {
				sizes[j] += l.Size
			}
			return nil
		})
	}
	asks.Wait()
	slices.SortStableFunc(jobs, func(x, y *job) int { return cmp.Compare(sizes[y], sizes[x]) })
}

// childEnded notes how a child has ended, and ends its parent with the last.
// The admission lock is held, and to be given back by unlock.
func (p *Puller) childEnded(j *job) {
	parent := j.parent
	b := parent.batch
	i := slices.Index(b.children, j)
	b.images[i] = imageState(&j.view)
	b.hush(j.key)
	b.left--
	parent.notice(endNotice(&j.view), 0)
	p.failFast(b, &b.images[i])
	if b.left == 0 {
		p.finishBatch(parent)
	}
}

// failFast ends the children of a prewarm that is to fail fast, if one of them
// has ended so that it does. The same holds.
func (p *Puller) failFast(b *batch, ended *ImageState) {
	if b.failFast && ended.State == Failed && b.stopped == nil {
		b.stopped = Errorf(Canceled, "canceled, since %s failed and the prewarm is to fail fast", ended.Image)
		p.stopRest(b)
	}
}

func endNotice(v *Job) string {
	if v.Error != nil {
		return fmt.Sprintf("%s: %s (%s): %s", v.Image, v.State, v.Error.Kind, v.Error.Message)
	}
	return fmt.Sprintf("%s: %s (%s) after %.1fs", v.Image, v.State, v.Result.Source, v.Result.DurationSeconds)
}

// cancelAll ends a prewarm's children as canceled, and it with them. The same
// holds.
func (p *Puller) cancelAll(parent *job) {
	b := parent.batch
	b.stopped = Errorf(Canceled, "the prewarm was canceled")
	p.stopRest(b)
}

func (p *Puller) stopRest(b *batch) {
	for _, j := range b.children {
		if j != nil && j.outcome == nil {
			p.leaveLocked(j, Errorf(Canceled, "%s: %w", j.view.Image, b.stopped))
		}
	}
}

// finishBatch ends a prewarm whose children have. The same holds.
func (p *Puller) finishBatch(parent *job) {
	b := parent.batch
	b.mu.Lock()
	downloaded := b.totals(time.Now()).Downloaded
	b.mu.Unlock()
	p.finish(parent, Result{Downloaded: downloaded}, b.verdict())
}

// verdict returns why a prewarm has failed, nil if it has not. Its kind is that
// of the first image in the list that failed by itself.
func (b *batch) verdict() error {
	var first *JobError
	var failed []string
	for _, s := range b.images {
		if s.Error == nil {
			continue
		}
		if first == nil || first.Kind == Canceled && s.Error.Kind != Canceled {
			first = s.Error
		}
		failed = append(failed, fmt.Sprintf("%s (%s): %s", s.Image, s.Error.Kind, strings.TrimPrefix(s.Error.Message, s.Image+": ")))
	}
	if first == nil {
		return nil
	}
	err := Errorf(first.Kind, "%d of %d images were not pulled: %s", len(failed), len(b.images), strings.Join(failed, "; "))
	return &Error{Kind: first.Kind, RetryAfter: time.Duration(first.RetryAfterSeconds * float64(time.Second)), Err: err}
}
