package puller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// Plan is what a prewarm would do, before anything is pulled. Sizes are in
// Bytes as registries transfer them.
type Plan struct {
	Images []PlannedImage `json:"images"` // in the order they were asked for
	// Fetch is what is to be transferred in all, every layer once. Shared is
	// what is not, since several images of the plan have it, and Present what is
	// not, since the engine has it.
	Fetch   int64 `json:"fetch"`
	Shared  int64 `json:"shared"`
	Present int64 `json:"present"`
	// Complete says that no sizes are missing. Without it there is at least so
	// much to fetch.
	Complete bool `json:"complete"`
	// EngineFree is what the engine's disk has left, where that is known.
	// Images take more of it than Fetch: they are kept unpacked.
	EngineFree *int64 `json:"engine_free,omitempty"`
	// Notes are for people: what speaks against the plan as a whole.
	Notes   []string  `json:"notes,omitempty"`
	Skipped []Skipped `json:"skipped,omitempty"`
}

// PlannedImage is what a prewarm would do with one image.
type PlannedImage struct {
	Image    string `json:"image"` // in full form
	Platform string `json:"platform,omitempty"`
	Policy   Policy `json:"policy"`
	Status   Status `json:"status"`
	Digest   string `json:"digest,omitempty"` // that a pull would bring, or that is there
	// Weight is absent where nothing is to be fetched, and where it is not known
	// how much. The latter is in Plan.Complete.
	*Weight
	// Error is what would keep the image from being pulled, or has kept the plan
	// from knowing more.
	Error *JobError `json:"error,omitempty"`
}

// Status is how an image stands at the engine.
type Status string

// The statuses.
const (
	StatusPresent Status = "present" // as its policy asks for
	StatusStale   Status = "stale"   // another one has come to stand in the registry under its name
	StatusMissing Status = "missing"
	StatusUnknown Status = "unknown" // is there, but what the registry has is not known
)

// Weight is how much of an image is to be fetched. Fetch, what it shares and
// what is present add up to Size.
type Weight struct {
	Size int64 `json:"size"` // bytes of all layers
	// Fetch is bytes that this image adds to the plan: without the layers that
	// images before it bring.
	Fetch         int64 `json:"fetch"`
	Layers        int   `json:"layers"`
	LayersPresent int   `json:"layers_present"` // on the engine
	LayersShared  int   `json:"layers_shared"`  // brought by images before it
}

const (
	// maxAsks is how many images of a plan are looked at at a time.
	maxAsks = 8
	// askLimit is how long a plan asks registries, in all.
	askLimit = 2 * time.Minute
	// patience is how many images of one registry may fail to be asked for: the
	// rest of them is not waited for.
	patience = 3
)

// Plan says what a prewarm would pull, how much that is and what would fail.
// It pulls nothing; to registries it costs what reading the manifests costs.
// What Prewarm refuses is refused here too, before any registry is asked. The
// error is ErrInvalidRequest, naming the field, ErrForbidden, naming the image and the
// rule, ErrConflict, where the engine can't have all of it, or the engine's.
func (p *Puller) Plan(ctx context.Context, r PrewarmRequest) (Plan, error) {
	r, err := r.withDefaults(p.opts)
	if err != nil {
		return Plan{}, err
	}
	engine, err := p.engine.Info(ctx)
	if err != nil {
		return Plan{}, err
	}
	stock, err := p.engine.Storage(ctx)
	if err != nil {
		return Plan{}, err
	}
	s := &survey{p: p, engine: engine, failed: make(map[string]failures)}
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
		return Plan{}, err
	}
	if err := ctx.Err(); err != nil { // registries may have been left unasked
		kind := ErrCanceled
		if errors.Is(err, context.DeadlineExceeded) {
			kind = ErrTimeout
		}
		return Plan{}, Errorf(kind, "the plan was not done: %w", err)
	}
	// What can't be had takes no name from another one, and is told as such.
	if err := engine.checkRivals(r.Images, func(i int) bool { return looks[i].Error == nil || looks[i].Error.Retryable }); err != nil {
		return Plan{}, err
	}
	plan := Plan{Images: make([]PlannedImage, len(looks)), Complete: true, EngineFree: stock.Free, Skipped: r.Skipped}
	layers := newTally(stock.Images, engine.ImageStore == StoreContainerd)
	unknown := 0
	for i, l := range looks {
		plan.Images[i] = l.PlannedImage
		switch {
		case l.manifest != nil:
			w := layers.enter(*l.manifest)
			plan.Images[i].Weight = &w
		case l.mayFetch():
			unknown++
		}
	}
	plan.Fetch, plan.Shared, plan.Present = layers.fetch, layers.shared, layers.present
	plan.Complete = unknown == 0
	plan.Notes = plan.notes(unknown)
	for _, l := range looks {
		if l.manifest != nil && l.manifest.Unnamed {
			plan.Notes = append(plan.Notes, l.Image+": its index does not say for which platform it is, so that engines with a graph driver do not pull it; push the index anew with a platform")
		}
	}
	return plan, nil
}

func (p Plan) notes(unknown int) (notes []string) {
	if unknown > 0 {
		notes = append(notes, fmt.Sprintf("how much is to be fetched is not known of %d images: it is at least %s", unknown, megabytes(p.Fetch)))
	}
	if p.EngineFree != nil && p.Fetch > *p.EngineFree {
		notes = append(notes, fmt.Sprintf("the engine's disk has %s left, but %s are to be fetched, which take more still when they are unpacked", megabytes(*p.EngineFree), megabytes(p.Fetch)))
	}
	return notes
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) }
