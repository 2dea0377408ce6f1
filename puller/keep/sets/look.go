package sets

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/names"
)

const (
	// lookLimit is how long a look at the engine may take.
	lookLimit = 30 * time.Second
	maxLooks  = 4 // at a time
)

// digestOf returns the digest of an image in the repository of a reference, "" if there is
// none, or several.
func digestOf(i puller.Image, reference string) string {
	n := names.ParseName(reference)
	if n.Digest != "" {
		return n.Digest
	}
	if all := i.Digests(n.Repository); len(all) == 1 {
		return all[0]
	}
	return ""
}

// listed returns the IDs of the engine's images by all that they are called.
func listed(all []engines.ImageSummary) map[string]string {
	ids := make(map[string]string)
	for _, i := range all {
		ids[i.ID] = i.ID
		for _, name := range slices.Concat(i.Tags, i.Digests) {
			ids[name] = i.ID
		}
	}
	return ids
}

// inspection is an image that the engine is asked about by name, and what that has found.
type inspection struct {
	*image
	set     *set
	request puller.PullRequest
	listed  string
	since   time.Time // its last look, or job

	here      puller.Image
	err       error
	collected bool // a collection has removed it since
	// holder is the image that has its name for another platform, and holds the set of that; nil
	// for none. A graph driver keeps one image of a name.
	holder *image
	holds  string
}

// looks find out which images of sets the engine has. Only Run uses them.
type looks struct {
	engine    Engine
	service   puller.Service
	table     *table
	changed   func(puller.ImageChange)                // nil for nobody
	collected func(name string, since time.Time) bool // nil for never
	log       logrus.FieldLogger

	stranded time.Time // since when the engine does not say what it has
}

// look asks the engine which images there are. Those that have come, gone or changed are
// inspected.
func (l *looks) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	l.table.mu.Lock()
	none := len(l.table.all) == 0
	l.table.mu.Unlock()
	if none {
		return
	}
	all, err := l.engine.Images(ctx, false)
	if err != nil {
		l.strand(ctx, err)
		return
	}
	ids := listed(all)
	var changed []*inspection
	at := now()
	var told []puller.ImageChange
	defer func() { tell(l.changed, told) }() // not under the lock
	l.stranded = time.Time{}
	l.table.mu.Lock()
	for _, one := range l.table.all {
		for _, i := range one.images {
			id := ids[names.EngineRef(i.Image)]
			switch {
			case i.busy:
			case id != "" && id == i.listed, id == "" && i.listed == "" && (i.state == keep.SetMissing || i.state == keep.SetFailed) && i.reason != notLooked:
				i.checked = at
			default:
				changed = append(changed, &inspection{image: i, set: one, request: i.PullRequest, listed: id, since: i.checked})
			}
		}
	}
	l.table.mu.Unlock()
	var asks errgroup.Group
	asks.SetLimit(maxLooks)
	for _, g := range changed {
		asks.Go(func() error {
			g.here, g.err = l.service.Image(ctx, g.request.Image, g.request.Platform, nil)
			if puller.KindOf(g.err) == puller.ErrNotFound && l.collected != nil && !*g.set.Protect {
				g.collected = l.collected(names.EngineRef(g.request.Image), g.since)
			}
			return nil
		})
	}
	asks.Wait()
	// Those first that are there: they may have the names of others.
	changed = slices.Concat(withError(changed, false), withError(changed, true))
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	for _, g := range changed {
		if g.busy || !g.checked.Equal(g.since) {
			continue // a job tells what becomes of it, or has told that meanwhile
		}
		digest, vanished := g.digest, g.vanished
		if g.err != nil && g.listed != "" {
			if g.holder, g.holds = l.table.holder(g.image, g.listed); g.holder != nil && g.holder.busy {
				continue // the next look finds out
			}
		}
		if g.apply(at); g.vanished && !vanished {
			told = append(told, puller.ImageChange{Action: puller.ImageMissing, Names: []string{g.Image}, Digest: digest, Set: g.set.name})
		}
	}
}

// withError returns those of which a look has found an error, or none.
func withError(all []*inspection, failed bool) (some []*inspection) {
	for _, g := range all {
		if (g.err != nil) == failed {
			some = append(some, g)
		}
	}
	return some
}

// apply keeps what a look has found. table.mu is held.
func (g *inspection) apply(at time.Time) {
	i := g.image
	switch kind := puller.KindOf(g.err); {
	case g.err == nil:
		g.found(at)
	case kind == puller.ErrNotFound:
		i.checked, i.listed, i.digest = at, "", ""
		switch {
		case i.state == keep.SetFailed: // and why is known
		case g.holder != nil:
			// Pulled again, it would take the name from the other one, and so on.
			i.state, i.idle = keep.SetMissing, true
			i.reason = fmt.Sprintf("the set %s has its name for another platform (%s), and this engine keeps one image of a name; the next refresh pulls it", g.holds, cmp.Or(g.holder.Platform, "the engine's own"))
		case i.state != keep.SetPresent && i.state != keep.SetStale:
			i.state, i.reason = keep.SetMissing, "the engine does not have it"
		case g.collected:
			// Pulled again at once, it would be collected again at once.
			i.state, i.reason, i.idle = keep.SetMissing, "a collection has removed it, as the set does not protect its images; the next refresh pulls it again", true
		default:
			i.state, i.reason, i.vanished = keep.SetMissing, "it was removed from the engine, and not by Towline; it is pulled again", true
		}
	case kind == puller.ErrForbidden:
		i.checked, i.listed = at, g.listed
		i.state, i.reason, i.digest = keep.SetFailed, g.err.Error(), ""
		i.repairAt = at.Add(longestWait)
	}
	// Another error is the engine's, and says nothing of the image.
}

// found keeps that an image is there.
func (g *inspection) found(at time.Time) {
	i := g.image
	i.checked, i.listed, i.digest = at, g.listed, digestOf(g.here, i.Image)
	if i.digest == "" && g.here.HasDigest(names.ParseName(i.Image).Repository, i.proven) {
		i.digest = i.proven
	}
	moved := i.proven != "" && !slices.Contains(g.here.AllDigests(), i.proven) && g.here.ID != i.proven && names.ParseName(i.Image).Digest == ""
	switch {
	case moved && i.policy != puller.PolicyMissing:
		i.state, i.reason, i.retry = keep.SetStale, "another image has come to have its name since its last pull; the registry is asked", true
	case i.retry && i.state == keep.SetStale: // and why is known
	case i.state == keep.SetStale && i.failures > 0:
	default:
		i.state, i.reason, i.vanished, i.idle = keep.SetPresent, "", false, false
	}
}

// strand keeps that the engine does not say what it has. It is logged once.
func (l *looks) strand(ctx context.Context, err error) {
	if l.stranded.IsZero() && ctx.Err() == nil {
		l.log.WithError(err).Warn("the engine does not say which images it has; the states of sets are old until it does")
		l.stranded = now()
	}
}
