package collect

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

// goal is what a collection is for.
type goal struct {
	low    float64       // the used share of the disk that is to be reached; 0 is for none
	free   int64         // bytes that are to be free; 0 is for none
	unused time.Duration // after what time without use an image goes in any case; 0 is for never
	limit  int           // images that are removed at most; 0 is without limit
}

// Why an image is removed.
const (
	whyHigh      = "high"
	whyUnused    = "unused"
	whyAdmission = "admission"
)

// unmet returns why the disk needs room, "" where it does not, or is not known.
func (g goal) unmet(disk *puller.Disk) string {
	switch {
	case disk == nil:
		return ""
	case g.free > 0 && disk.Free < g.free:
		return whyAdmission
	case g.low > 0 && disk.Used() > g.low:
		return whyHigh
	}
	return ""
}

// why returns what an image is removed for, "" for nothing.
func (g goal) why(disk *puller.Disk, i *image, now time.Time) string {
	if g.unused > 0 && now.Sub(i.LastUsed()) > g.unused {
		return whyUnused
	}
	return g.unmet(disk)
}

// collect removes images until a goal is met, or says what it would do.
func (c *Collector) collect(ctx context.Context, g goal, dryRun bool) (keep.Collection, error) {
	c.cycle.Lock()
	defer c.cycle.Unlock()
	disk, err := c.opts.Engine.Disk(ctx)
	if err != nil {
		return keep.Collection{}, err
	}
	images, err := c.view(ctx, true)
	if err != nil {
		return keep.Collection{}, err
	}
	c.resolve(images)
	c.tellIdle(images)
	if g.free > 0 && disk != nil && disk.Free+possible(images) < g.free {
		// Nothing is removed for a pull that can't fit.
		return keep.Collection{Before: disk, After: disk, Blocked: blockedBy(disk, g, images)}, nil
	}
	done := keep.Collection{DryRun: dryRun, Before: disk, Removed: []keep.CollectedImage{}, Stayed: []keep.KeptBack{}}
	now := time.Now()
	capped := false
	for _, i := range inOrder(images) {
		why := g.why(disk, i, now)
		switch {
		case len(i.kept) > 0:
		case why == "" && disk == nil && (g.low > 0 || g.free > 0):
			i.keep(keep.ReasonNoDisk, "")
		case why == "":
			i.keep(keep.ReasonNotNeeded, "")
		case g.limit > 0 && len(done.Removed) >= g.limit:
			capped = true
			i.keep(keep.ReasonLimit, "")
		case dryRun:
			removed := keep.CollectedImage{ID: i.ID, Names: i.allNames(), Freed: i.Unique, Why: why}
			done.Removed = append(done.Removed, removed)
			disk = after(disk, i.frees())
			continue
		default:
			var removed bool
			if disk, removed, err = c.removeOne(ctx, i, why, disk, &done); err != nil {
				done.After = disk
				return done, err
			}
			if removed {
				continue
			}
		}
		done.Stayed = append(done.Stayed, keep.KeptBack{ID: i.ID, Names: i.allNames(), Size: i.Size, Kept: i.kept})
	}
	done.After = disk
	if g.unmet(disk) != "" && !capped {
		done.Blocked = blockedBy(disk, g, images)
	}
	return done, nil
}

// possible returns how many bytes can be freed at the most.
func possible(images []image) (bytes int64) {
	for _, i := range images {
		if len(i.kept) == 0 {
			bytes += i.Size
		}
	}
	return bytes
}

// after returns a disk after so many bytes have gone.
func after(disk *puller.Disk, bytes int64) *puller.Disk {
	if disk == nil {
		return nil
	}
	return &puller.Disk{Total: disk.Total, Free: min(disk.Free+bytes, disk.Total)}
}

func (i *image) allNames() []string { return append([]string{}, i.names()...) }

// inOrder returns images in the order in which they are removed: those first that were not
// used for longest, and of those the largest.
func inOrder(images []image) []*image {
	order := make([]*image, len(images))
	for n := range images {
		order[n] = &images[n]
	}
	slices.SortFunc(order, func(a, b *image) int {
		return cmp.Or(a.LastUsed().Compare(b.LastUsed()), cmp.Compare(b.frees(), a.frees()), strings.Compare(a.ID, b.ID))
	})
	return order
}

// leave leaves an image alone for a while whose removal has failed.
func (c *Collector) leave(id, name string, err error) []keep.Kept {
	c.mu.Lock()
	c.failed[id] = time.Now().Add(failureWait)
	c.mu.Unlock()
	c.metrics.failures.Inc()
	c.opts.Log.WithFields(logrus.Fields{"image": id, "name": name}).WithError(err).Warnf("an image can't be removed; it is tried again in %s", failureWait)
	return []keep.Kept{{Reason: keep.ReasonFailed, Detail: puller.ClipTo(err.Error(), 500)}}
}

// blockedBy says what stands in the way of a goal. It has no figures that change all the
// time.
func blockedBy(disk *puller.Disk, g goal, images []image) string {
	count := make(map[keep.Reason]int)
	size := make(map[keep.Reason]int64)
	for _, i := range images {
		if len(i.kept) > 0 {
			reason := i.kept[0].Reason
			count[reason]++
			size[reason] += i.frees()
		}
	}
	var parts []string
	for _, r := range []struct {
		reason keep.Reason
		words  string
	}{
		{keep.ReasonContainer, "used by containers"}, {keep.ReasonSet, "in sets"}, {keep.ReasonLease, "leased"}, {keep.ReasonWanted, "wanted by jobs"},
		{keep.ReasonProtected, "protected by keep.protect"}, {keep.ReasonYoung, "younger than keep.min_age"}, {keep.ReasonOwner, "not brought by Towline (keep.collect)"},
		{keep.ReasonParent, "the base of others"}, {keep.ReasonName, "without a usable name"}, {keep.ReasonFailed, "not removable"},
	} {
		if n := count[r.reason]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s (%s)", n, r.words, units.HumanSize(float64(size[r.reason]))))
		}
	}
	text := fmt.Sprintf("the engine's disk can't be brought below keep.low (%.0f%%)", 100*g.low)
	if g.free > 0 {
		text = "not enough could be collected"
	}
	if len(parts) == 0 {
		return text + ": there are no images to remove"
	}
	return text + ": of its images are " + strings.Join(parts, ", ")
}
