// Package prewarm has the jobs that pull a list of images, each as a job of its own,
// and the plans of what they would do.
package prewarm

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/job"
	"github.com/towline/towline/puller/proof"
	"github.com/towline/towline/puller/pull"
	"github.com/towline/towline/puller/store"
	"github.com/towline/towline/stream"
)

// Env is what all prewarms share.
type Env struct {
	Context     context.Context // ends when the daemon does
	Engine      engines.Engine
	Registry    puller.Registry     // nil for none
	Accelerator engines.Accelerator // nil for none
	Prover      *proof.Prover
	Concurrency int // transfers at a time
	// EngineTimeout is how long an engine that does not answer is waited for; 0 is
	// without limit.
	EngineTimeout time.Duration
	Numbers       *stream.Sequence
	Events        *stream.EventLog
	// Go starts a goroutine that the daemon waits for.
	Go func(func())
}

// Prewarm is the job.Work of a prewarm. Its lock is taken before that of a child's
// job. Its methods may be called from anywhere.
type Prewarm struct {
	env      *Env
	job      *job.Job
	failFast bool
	skipped  []puller.Skipped
	progress *progress

	mu       sync.Mutex
	children []*pull.Pull        // in the order they were asked for; nil for those that have ended
	images   []puller.ImageState // of the children that have ended
	left     int                 // children that have not ended
	stopped  error               // why the rest was canceled
	canceled bool                // a caller canceled the rest
}

// New returns a prewarm of so many images, whose children are still to be set.
func New(env *Env, j *job.Job, images int, kept store.Prewarm) *Prewarm {
	w := &Prewarm{
		env: env, job: j, failFast: kept.FailFast, skipped: kept.Skipped, progress: newProgress(env.Numbers),
		children: make([]*pull.Pull, images), images: make([]puller.ImageState, images),
	}
	j.Topic().ShowLatest(w.progress.layers)
	return w
}

// SetChild says which pull is the i-th image's. It is called before Show and Begin.
func (w *Prewarm) SetChild(i int, child *pull.Pull) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.children[i] = child
	w.left++
	w.progress.expectLayers(child.Key())
}

// SetEnded says what became of the i-th image before a restart.
func (w *Prewarm) SetEnded(i int, s puller.ImageState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.images[i] = s
}

// Show has readers of all jobs told of the prewarm's layers. It is called when the
// job is accepted.
func (w *Prewarm) Show() { w.env.Events.Show(w.progress.layers, w.job.View().About()) }

// pulls returns the children that have not ended.
func (w *Prewarm) pulls() []*pull.Pull {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.children), func(p *pull.Pull) bool { return p == nil || p.Job().Ending() })
}

// Describe implements job.Work.
func (w *Prewarm) Describe(v *puller.Job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v.Images = make([]puller.ImageState, 0, len(w.images)+len(w.skipped))
	for i, p := range w.children {
		if s := w.images[i]; s.State != "" {
			v.Images = append(v.Images, s)
		} else {
			child := p.Job().View()
			v.Images = append(v.Images, ImageState(&child))
		}
	}
	for _, s := range w.skipped {
		v.Images = append(v.Images, puller.ImageState{Service: s.Service, State: "skipped", Reason: s.Reason})
	}
	totals := w.progress.totals()
	v.Progress = &totals
}

// Record implements job.Work. Once the job has ended, it says itself what became of
// its images.
func (w *Prewarm) Record(r *store.Record, ended bool) {
	r.Prewarm = &store.Prewarm{FailFast: w.failFast}
	if ended {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	r.Prewarm.Skipped = w.skipped
	for _, s := range w.images {
		if s.State != "" {
			r.Prewarm.Ended = append(r.Prewarm.Ended, s)
		}
	}
}

// Settled implements job.Work.
func (w *Prewarm) Settled() { w.env.Events.Hide(w.progress.layers) }

// Leave ends the children as canceled, and the prewarm with the last of them.
func (w *Prewarm) Leave(error) bool {
	why := puller.Errorf(puller.ErrCanceled, "the prewarm was canceled")
	rest := w.pulls()
	w.mu.Lock()
	left := !w.canceled && len(rest) > 0
	if left {
		w.canceled, w.stopped = true, why
	}
	w.mu.Unlock()
	if left {
		stop(rest, why)
	}
	return left
}

// stop ends children.
func stop(rest []*pull.Pull, why error) {
	for _, p := range rest {
		p.Leave(puller.Errorf(puller.ErrCanceled, "%s: %w", p.Key().Image, why))
	}
}
