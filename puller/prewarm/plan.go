package prewarm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
)

const (
	// maxAsks is how many images of a plan are looked at at a time.
	maxAsks = 8
	// askLimit is how long a plan asks registries, in all.
	askLimit = 2 * time.Minute
	// maxFailures is how many images of one registry may fail to be asked for: the
	// rest of them is not asked for.
	maxFailures = 3
)

// Plan says what a prewarm with its defaults would pull, how much that is and what
// would fail. It pulls nothing. To registries it costs what reading the manifests
// costs. The error is ErrConflict, where the engine can't have all of it, or the
// engine's.
func (e *Env) Plan(ctx context.Context, r puller.PrewarmRequest) (puller.Plan, error) {
	engine, err := e.Engine.Info(ctx)
	if err != nil {
		return puller.Plan{}, err
	}
	stored, err := e.Engine.Storage(ctx)
	if err != nil {
		return puller.Plan{}, err
	}
	s := &survey{env: e, engine: engine, failed: make(map[string]failures)}
	looks := make([]look, len(r.Images))
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(maxAsks)
	// The engine is not held to this limit, so that the plan is whole however
	// slow the registries are.
	asking, cancel := context.WithTimeout(inner, askLimit)
	defer cancel()
	for i, image := range r.Images {
		group.Go(func() (err error) {
			looks[i], err = s.look(inner, asking, image)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return puller.Plan{}, err
	}
	if err := ctx.Err(); err != nil { // registries may have been left unasked
		kind := puller.ErrCanceled
		if errors.Is(err, context.DeadlineExceeded) {
			kind = puller.ErrTimeout
		}
		return puller.Plan{}, puller.Errorf(kind, "the plan was not done: %w", err)
	}
	// An image that can't be pulled takes no name from another image.
	if err := checkConflicts(engine, r.Images, func(i int) bool { return looks[i].Error == nil || looks[i].Error.Retryable }); err != nil {
		return puller.Plan{}, err
	}
	plan := puller.Plan{Images: make([]puller.PlannedImage, len(looks)), Complete: true, EngineFree: stored.Free, Skipped: r.Skipped}
	layers := newLayerSum(stored.Images, engine.ImageStore == puller.StoreContainerd)
	unknown := 0
	for i, l := range looks {
		plan.Images[i] = l.PlannedImage
		switch {
		case l.manifest != nil:
			w := layers.add(*l.manifest)
			plan.Images[i].Weight = &w
		case l.mayFetch():
			unknown++
		}
	}
	plan.Fetch, plan.Shared, plan.Present = layers.fetch, layers.shared, layers.present
	if e.Accelerator != nil {
		for _, blob := range e.Accelerator.Cached(layers.fetched) {
			plan.Cached += blob.Size
		}
	}
	plan.Complete = unknown == 0
	plan.Notes = notes(plan, unknown)
	plan.Notes = append(plan.Notes, unaskedNotes(looks)...)
	for _, l := range looks {
		if l.manifest != nil && l.manifest.Unnamed {
			plan.Notes = append(plan.Notes, l.Image+": its index does not say for which platform it is, so that engines with a graph driver do not pull it; push the index anew with a platform")
		}
	}
	return plan, nil
}

func notes(p puller.Plan, unknown int) (notes []string) {
	if unknown > 0 {
		note := fmt.Sprintf("the size is not known of %d of %d images", unknown, len(p.Images))
		if p.Fetch > 0 {
			note += fmt.Sprintf("; at least %s are to be fetched", megabytes(p.Fetch))
		}
		notes = append(notes, note)
	}
	if p.EngineFree != nil && p.Fetch > *p.EngineFree {
		notes = append(notes, fmt.Sprintf("the engine's disk has %s left, but %s are to be fetched, which take more still when they are unpacked", megabytes(*p.EngineFree), megabytes(p.Fetch)))
	}
	return notes
}

// unaskedNotes says once for each registry that Towline may not ask it for sizes.
func unaskedNotes(looks []look) (notes []string) {
	told := make(map[string]bool)
	for _, l := range looks {
		if registry := names.RegistryOf(l.Image); l.unasked != nil && !told[registry] {
			told[registry] = true
			notes = append(notes, fmt.Sprintf("the sizes of images of %s are not known, because Towline may not ask it: it is in a private network, and registries.allow_private does not list it. Pulls do not need that", registry))
		}
	}
	return notes
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }
