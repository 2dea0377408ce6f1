package control

import (
	"context"
	"io"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/known"
	"github.com/towline/towline/stream"
)

// conflated is how long changes are gathered for readers.
const conflated = 250 * time.Millisecond

// reader reads what has changed since a change.
type reader struct {
	c    *Controller
	name string // of one set, "" for all
	at   uint64
	link fleet.Link // as it was told last
}

// Watch implements fleet.Service.
func (c *Controller) Watch(name string) ([]stream.Frame, fleet.Reader, error) {
	if err := c.mayAct(); err != nil {
		return nil, nil, err
	}
	link := c.Link()
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	if name != "" && c.state.known.Sets[name] == nil {
		return nil, nil, errNoSet(name)
	}
	r := &reader{c, name, c.state.known.Change, link}
	frames := c.state.known.Since(name, 0)
	if name == "" {
		frames = append([]stream.Frame{linkFrame(link)}, frames...)
	}
	return frames, r, nil
}

func linkFrame(l fleet.Link) stream.Frame {
	return fleet.Event{Time: known.Now(), Type: fleet.EventLink, Link: &l}.Frame()
}

// Next implements fleet.Reader.
func (r *reader) Next(ctx context.Context, wait time.Duration) (*stream.Batch, error) {
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for {
		link := r.c.Link()
		r.c.state.mu.Lock()
		if r.at < r.c.state.known.Lost {
			r.at = 0 // what was removed since is not known: it gets the present state
		}
		changed, closed := r.c.state.known.Notify, r.c.state.closed
		var frames []stream.Frame
		if r.c.state.known.Change != r.at {
			frames = r.c.state.known.Since(r.name, r.at)
			r.at = r.c.state.known.Change
		}
		r.c.state.mu.Unlock()
		if link != r.link && r.name == "" {
			frames = append([]stream.Frame{linkFrame(link)}, frames...)
		}
		r.link = link
		switch {
		case len(frames) > 0:
			return stream.NewBatch(frames...), nil
		case closed:
			return nil, io.EOF
		}
		select {
		case <-changed:
			// What comes together is told together.
			select {
			case <-time.After(conflated):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		case <-timeout.C:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// learnIn is how long a daemon may take to learn of a generation that another one has kept:
// as long as NATS takes to tell it everything again after both were apart.
const learnIn = 15 * time.Second

// Wait implements fleet.Service.
func (c *Controller) Wait(ctx context.Context, name string, generation uint64) (fleet.Set, error) {
	late := time.NewTimer(learnIn)
	defer late.Stop()
	for isLate, seen := false, false; ; {
		c.state.mu.Lock()
		changed, closed := c.state.known.Notify, c.state.closed
		c.state.mu.Unlock()
		set, err := c.Set(name)
		comes := !seen && (puller.KindOf(err) == puller.ErrNotFound || err == nil && set.Generation < generation)
		switch {
		case comes && !isLate:
		case err != nil:
			return set, err
		case comes:
			return set, puller.Errorf(puller.ErrConflict, "the set %s has generation %d here; this daemon has not heard of generation %d", name, set.Generation, generation)
		case set.Generation > generation:
			return set, puller.Errorf(puller.ErrConflict, "the set %s has generation %d by now; generation %d is not rolled out any more", name, set.Generation, generation)
		default:
			seen = true
			if over, err := known.Outcome(set); over {
				return set, err
			}
		}
		if closed {
			return set, puller.Overloaded("the daemon ends")
		}
		select {
		case <-changed:
			select { // what comes together is looked at together
			case <-time.After(together):
			case <-ctx.Done():
			}
		case <-late.C:
			isLate = true
		case <-ctx.Done():
			return set, ctx.Err()
		}
	}
}
