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
)

// warm has a prewarm's children do what they are for: those whose image is there
// end, the others wait for their turn.
func (p *Puller) warm(parent *job) {
	b := parent.batch
	p.endRivals(b)
	p.mu.Lock()
	parent.enter(StateActive, PhaseResolving, 0)
	p.failFast(b) // a child may have failed before a restart
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
		parent.enter(StateActive, PhasePulling, 0)
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
		if wants[i] = !j.orphan && (j.request.Policy.AsksRegistry() || p.waits(j)); wants[i] {
			continue
		}
		looks.Go(func() error {
			if j.orphan {
				p.adopt(j)
			} else {
				wants[i] = p.wants(j)
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
			m, err := p.manifest(ctx, requests[i], engine.Platform, engine.OSVersion, true)
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
	b.images[i], b.children[i] = imageState(&j.view), nil // a prewarm may outlive very many
	b.hush(j.key)
	b.left--
	parent.notice(endNotice(&j.view), 0)
	p.failFast(b)
	if b.left == 0 {
		p.finishBatch(parent)
	}
}

func endNotice(v *Job) string {
	if v.Error != nil {
		return fmt.Sprintf("%s: %s (%s): %s", v.Image, v.State, v.Error.Kind, ClipTo(v.Error.Message, maxImageMessage))
	}
	return fmt.Sprintf("%s: %s (%s) after %.1fs", v.Image, v.State, v.Result.Source, v.Result.DurationSeconds)
}

// failFast cancels the rest of a prewarm that is to fail with its first image,
// once one has failed. The same holds.
func (p *Puller) failFast(b *batch) {
	failed := func(s ImageState) bool { return s.State == StateFailed }
	if !b.failFast || b.stopped != nil {
		return
	}
	if i := slices.IndexFunc(b.images, failed); i >= 0 {
		b.stopped = Errorf(ErrCanceled, "canceled, since %s failed and the prewarm is to fail fast", b.images[i].Image)
		p.stopRest(b)
	}
}

// cancelAll ends a prewarm's children as canceled, and it with them, or returns
// false if all of them are about to have ended. The same holds.
func (p *Puller) cancelAll(parent *job) bool {
	b := parent.batch
	b.stopped = Errorf(ErrCanceled, "the prewarm was canceled")
	if !p.stopRest(b) {
		return false
	}
	b.canceled = true
	return true
}

// stopRest reports whether there was any to stop.
func (p *Puller) stopRest(b *batch) (any bool) {
	for _, j := range b.children {
		if j != nil && j.outcome == nil {
			p.leaveLocked(j, Errorf(ErrCanceled, "%s: %w", j.view.Image, b.stopped))
			any = true
		}
	}
	return any
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
// of the first image in the list that failed by itself, but Canceled if the
// prewarm was.
func (b *batch) verdict() error {
	var first *JobError
	var failed, canceled []ImageState
	for _, s := range b.images {
		switch {
		case s.Error == nil:
			continue
		case s.Error.Kind == ErrCanceled:
			canceled = append(canceled, s)
		default:
			failed = append(failed, s)
		}
		if first == nil || first.Kind == ErrCanceled && s.Error.Kind != ErrCanceled {
			first = s.Error
		}
	}
	if first == nil {
		return nil
	}
	// What failed comes first: there may be more of it than can be told.
	all := append(failed, canceled...)
	words := make([]string, len(all))
	for i, s := range all {
		said := ClipTo(strings.TrimPrefix(s.Error.Message, s.Image+": "), max(0, maxMessage/(len(all)+1)-len(s.Image)-40))
		if words[i] = fmt.Sprintf("%s (%s)", s.Image, s.Error.Kind); len(said) > len("…") {
			words[i] += ": " + said
		}
	}
	err := &Error{Kind: first.Kind, RetryAfter: time.Duration(first.RetryAfterSeconds * float64(time.Second))}
	if b.canceled {
		err = &Error{Kind: ErrCanceled}
	}
	err.Err = fmt.Errorf("%d of %d images were not pulled: %s", len(all), len(b.images), strings.Join(words, "; "))
	return err
}
