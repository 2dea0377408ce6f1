package collect

import (
	"context"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
)

// removeOne removes an image, notes it, and returns the disk as it is then.
func (c *Collector) removeOne(ctx context.Context, i *image, why string, disk *puller.Disk, done *keep.Collection) (*puller.Disk, bool, error) {
	change := puller.ImageChange{Action: puller.ImageRemoved, ID: i.ID, Names: i.names(), Digest: i.digest(), Size: i.Size, Freed: i.Unique, Why: why}
	kept, gone, err := c.remove(ctx, i, change)
	if err != nil {
		return disk, false, err // the engine may have removed it: the next look finds out
	}
	if kept != nil {
		c.drop(i.ID)
		i.kept = kept
		return disk, false, nil
	}
	if now, err := c.opts.Engine.Disk(ctx); err == nil && now != nil && disk != nil {
		gained := max(now.Free-disk.Free, 0) // a pull may take some of it meanwhile
		change.Freed, disk = &gained, now
	}
	if gone {
		c.drop(i.ID)
		return disk, true, nil // somebody else has removed it
	}
	done.Removed = append(done.Removed, keep.CollectedImage{ID: i.ID, Names: i.allNames(), Freed: change.Freed, Why: why})
	c.tell(change, logrus.Fields{"last_used": i.LastUsed().Format(time.RFC3339)})
	return disk, true, nil
}

// tell tells that an image was removed.
func (c *Collector) tell(change puller.ImageChange, fields logrus.Fields) {
	fields["image"], fields["names"], fields["why"] = change.ID, change.Names, change.Why
	if change.Freed != nil {
		fields["freed"] = *change.Freed
		c.metrics.freed.Add(float64(*change.Freed))
	}
	c.opts.Log.WithFields(fields).Info("image removed")
	c.metrics.removed.WithLabelValues(change.Why).Inc()
	if c.opts.History != nil {
		c.opts.History.Add(change)
	}
}

func (c *Collector) drop(id string) {
	if c.opts.History != nil {
		c.opts.History.Drop(id)
	}
}

// settle finds out what has become of the image that an earlier process was about to remove.
func (c *Collector) settle(ctx context.Context) error {
	if c.opts.History == nil || len(c.opts.History.Intended()) == 0 {
		return nil
	}
	c.cycle.Lock()
	defer c.cycle.Unlock()
	images, err := c.view(ctx, false)
	if err == nil {
		c.resolve(images)
	}
	return err
}

// resolve tells of images that were to be removed, and that the engine does not have any more:
// the process was killed, or the engine went away, before that was known. cycle is held.
func (c *Collector) resolve(images []image) {
	if c.opts.History == nil {
		return
	}
	for _, change := range c.opts.History.Intended() {
		if slices.ContainsFunc(images, func(i image) bool { return i.ID == change.ID }) {
			c.drop(change.ID)
			continue
		}
		c.tell(change, logrus.Fields{"found": "later, as the answer of the engine was lost"})
	}
}

// remove removes all names of an image, one at a time, and asks before each whether it may
// go. kept is what keeps it. gone says that somebody else has removed it. An error ends the
// collection: the engine does not answer.
func (c *Collector) remove(ctx context.Context, i *image, change puller.ImageChange) (kept []keep.Kept, gone bool, err error) {
	r := removal{change: change, called: append(i.names(), i.ID)}
	const most = 1000 // names; an engine could name new ones for ever
	var release func()
	defer func() {
		if release != nil {
			release()
		}
	}()
	for range most {
		if release == nil {
			claimed := false
			if release, claimed = c.opts.Claims.Remove(r.called); !claimed {
				r.keep([]keep.Kept{{Reason: keep.ReasonWanted, Detail: "a call that asks for it now"}}, c.opts.Log)
				return r.kept, false, nil
			}
		}
		again, over, err := c.removeName(ctx, &r)
		if over || err != nil {
			return r.kept, r.removed == 0, err
		}
		if !again {
			release()
			release = nil
		}
	}
	return c.leave(i.ID, "", puller.Errorf(puller.ErrInternal, "the engine names it again each time")), false, nil
}

// removal is an image that is being removed.
type removal struct {
	change   puller.ImageChange
	called   []string // its names at the last look, and its ID
	intended bool     // that is kept
	removed  int      // names
	kept     []keep.Kept
}

// keep notes why an image stays.
func (r *removal) keep(kept []keep.Kept, log logrus.FieldLogger) {
	if r.removed > 0 {
		log.WithFields(logrus.Fields{"image": r.change.ID, "names": r.called}).Warn("an image has lost names and stays, as it came to be needed meanwhile")
	}
	r.kept = kept
}

// removeName looks at an image once more and removes one of its names. What it is called is
// claimed: nobody comes to need it meanwhile. again says that it may have more names. over says
// that it has gone, or stays. Neither says that it has got a name that is not claimed.
func (c *Collector) removeName(ctx context.Context, r *removal) (again, over bool, err error) {
	id := r.change.ID
	images, err := c.view(ctx, false)
	if err != nil {
		return false, false, err
	}
	at := slices.IndexFunc(images, func(i image) bool { return i.ID == id })
	if at < 0 {
		return false, true, nil
	}
	i := images[at]
	now := append(i.names(), id)
	claimed := !slices.ContainsFunc(now, func(name string) bool { return !slices.Contains(r.called, name) })
	r.called = now
	if len(i.kept) > 0 {
		r.keep(i.kept, c.opts.Log)
		return false, true, nil
	}
	if !claimed {
		return false, false, nil
	}
	if !r.intended && c.opts.History != nil {
		c.opts.History.Intend(r.change)
	}
	r.intended = true
	switch err := c.opts.Engine.RemoveImage(ctx, now[0]); puller.KindOf(err) {
	case "":
		r.removed++
	case puller.ErrNotFound:
	case puller.ErrEngineUnavailable, puller.ErrTruncated, puller.ErrTimeout, puller.ErrCanceled:
		return false, false, err
	default:
		r.kept = c.leave(id, now[0], err)
		return false, true, nil
	}
	return true, false, nil
}
