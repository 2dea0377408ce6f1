package prewarm

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/pull"
)

const (
	// maxLooks is how many children ask the engine at a time whether their image is
	// there.
	maxLooks = 16
	// sizesLimit is how long a prewarm waits to be told how large its images are.
	sizesLimit = 3 * time.Second
	// maxImageMessage bounds what a prewarm keeps of each image's error, in bytes.
	maxImageMessage = 1 << 10
	// maxMessage bounds the prewarm's own error, in bytes.
	maxMessage = 4 << 10
)

// Begin begins the work of the children: those whose image is there end, the others
// join their transfers.
func (w *Prewarm) Begin() { w.env.Go(w.begin) }

func (w *Prewarm) begin() {
	w.endConflicts()
	w.job.Enter(puller.StateActive, puller.PhaseResolving, 0)
	w.applyFailFast() // a child may have failed before a restart
	w.mu.Lock()
	none := w.left == 0
	w.mu.Unlock()
	if none {
		w.finish()
	}
	rest := missing(w.pulls())
	// Where each has a slot, their order does not matter.
	ordered := len(rest) > w.env.Concurrency
	if ordered {
		w.longestFirst(rest)
	}
	if len(rest) > 0 {
		w.job.Enter(puller.StateActive, puller.PhasePulling, 0)
	}
	for _, p := range rest {
		p.Join()
	}
	if !ordered {
		w.longestFirst(rest)
	}
}

// missing returns the pulls whose image is to be pulled. The others end.
func missing(all []*pull.Pull) []*pull.Pull {
	wanted := make([]bool, len(all))
	var looks errgroup.Group
	looks.SetLimit(maxLooks)
	for i, p := range all {
		if wanted[i] = p.Asks(); !wanted[i] {
			looks.Go(func() error {
				wanted[i] = p.Look()
				return nil
			})
		}
	}
	looks.Wait()
	var rest []*pull.Pull
	for i, p := range all {
		if wanted[i] {
			rest = append(rest, p)
		}
	}
	return rest
}

// longestFirst orders pulls by how much there is to fetch, as far as registries say so
// without counting a pull, and adds that to what the prewarm's progress expects. Pulls
// of unknown size come last, in their order.
func (w *Prewarm) longestFirst(pulls []*pull.Pull) {
	if w.env.Registry == nil || len(pulls) < 2 {
		return
	}
	ctx, cancel := context.WithTimeout(w.env.Context, sizesLimit)
	defer cancel()
	engine, err := w.env.Engine.Info(ctx)
	if err != nil {
		return
	}
	var mu sync.Mutex
	sizes := make(map[*pull.Pull]int64)
	var asks errgroup.Group
	asks.SetLimit(maxAsks)
	for _, p := range pulls {
		request := p.Request()
		asks.Go(func() error {
			m, err := w.env.Prover.Manifest(ctx, request, engine.Platform, engine.OSVersion, true)
			if err != nil {
				return nil
			}
			w.progress.expect(p.Key(), m.Layers)
			mu.Lock()
			defer mu.Unlock()
			for _, l := range m.Layers {
				sizes[p] += l.Size
			}
			return nil
		})
	}
	asks.Wait()
	slices.SortStableFunc(pulls, func(x, y *pull.Pull) int { return cmp.Compare(sizes[y], sizes[x]) })
}

// ChildSettled says that the i-th child's job has ended. The prewarm ends with the
// last one.
func (w *Prewarm) ChildSettled(i int) {
	w.mu.Lock()
	child := w.children[i]
	v := child.Job().View()
	w.images[i], w.children[i] = ImageState(&v), nil // a prewarm may outlive very many
	w.left--
	last := w.left == 0
	w.mu.Unlock()
	w.progress.ended(child.Key())
	w.job.Notice(endNotice(&v), 0)
	w.applyFailFast()
	if last {
		w.finish()
	}
}

// ImageState is what became of the image of a job.
func ImageState(v *puller.Job) puller.ImageState {
	s := puller.ImageState{Job: v.ID, Image: v.Image, State: v.State, Error: v.Error}
	if v.Error != nil && len(v.Error.Message) > maxImageMessage { // the child has all of it
		e := *v.Error
		e.Message = puller.ClipTo(e.Message, maxImageMessage)
		s.Error = &e
	}
	if v.Result != nil {
		s.Source = v.Result.Source
	}
	return s
}

func endNotice(v *puller.Job) string {
	if v.Error != nil {
		return fmt.Sprintf("%s: %s (%s): %s", v.Image, v.State, v.Error.Kind, puller.ClipTo(strings.TrimPrefix(v.Error.Message, v.Image+": "), maxImageMessage))
	}
	return fmt.Sprintf("%s: %s (%s) after %.1fs", v.Image, v.State, v.Result.Source, v.Result.DurationSeconds)
}

// applyFailFast cancels the rest of a prewarm with fail_fast once an image has failed.
func (w *Prewarm) applyFailFast() {
	w.mu.Lock()
	i := slices.IndexFunc(w.images, func(s puller.ImageState) bool { return s.State == puller.StateFailed })
	if !w.failFast || w.stopped != nil || i < 0 {
		w.mu.Unlock()
		return
	}
	why := puller.Errorf(puller.ErrCanceled, "%s failed, and fail_fast cancels the other images", w.images[i].Image)
	w.stopped = why
	w.mu.Unlock()
	stop(w.pulls(), why)
}

// finish ends a prewarm whose children have ended.
func (w *Prewarm) finish() {
	w.job.Finish(puller.Result{Downloaded: w.progress.totals().Downloaded}, w.err())
}

// err returns why the prewarm has failed, nil if it has not. Its kind is that of the
// first image in the list that failed by itself, but ErrCanceled if the prewarm was
// canceled.
func (w *Prewarm) err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var first *puller.JobError
	var failed, canceled []puller.ImageState
	for _, s := range w.images {
		switch {
		case s.Error == nil:
			continue
		case s.Error.Kind == puller.ErrCanceled:
			canceled = append(canceled, s)
		default:
			failed = append(failed, s)
		}
		if first == nil || first.Kind == puller.ErrCanceled && s.Error.Kind != puller.ErrCanceled {
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
		message := puller.ClipTo(strings.TrimPrefix(s.Error.Message, s.Image+": "), max(0, maxMessage/(len(all)+1)-len(s.Image)-40))
		if words[i] = fmt.Sprintf("%s (%s)", s.Image, s.Error.Kind); len(message) > len("…") {
			words[i] += ": " + message
		}
	}
	err := &puller.Error{Kind: first.Kind, RetryAfter: time.Duration(first.RetryAfterSeconds * float64(time.Second))}
	if w.canceled {
		err = &puller.Error{Kind: puller.ErrCanceled}
	}
	err.Err = fmt.Errorf("%d of %d images were not pulled: %s", len(all), len(w.images), strings.Join(words, "; "))
	return err
}
