package control

import (
	"context"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/towline/towline/puller/fleet"
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
	c.mu.Lock()
	defer c.mu.Unlock()
	if name != "" && c.sets[name] == nil {
		return nil, nil, errNoSet(name)
	}
	r := &reader{c, name, c.change, link}
	frames := c.since(name, 0)
	if name == "" {
		frames = append([]stream.Frame{linkFrame(link)}, frames...)
	}
	return frames, r, nil
}

func linkFrame(l fleet.Link) stream.Frame {
	return fleet.Event{Time: now(), Type: fleet.EventLink, Link: &l}.Frame()
}

// Next implements fleet.Reader.
func (r *reader) Next(ctx context.Context, wait time.Duration) (*stream.Batch, error) {
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for {
		link := r.c.Link()
		r.c.mu.Lock()
		if r.at < r.c.lost {
			r.at = 0 // what was removed since is not known: it gets the present state
		}
		changed, closed := r.c.notify, r.c.closed
		var frames []stream.Frame
		if r.c.change != r.at {
			frames = r.c.since(r.name, r.at)
			r.at = r.c.change
		}
		r.c.mu.Unlock()
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

// since returns the present state of what has changed after a change; for 0 all sets, or one
// set and its members. mu is held.
func (c *Controller) since(name string, at uint64) (frames []stream.Frame) {
	stamp := now()
	add := func(e fleet.Event) {
		e.Time = stamp
		frames = append(frames, e.Frame())
	}
	if at > 0 {
		for _, r := range c.removed {
			switch {
			case r.changed <= at:
			case r.set != "" && (name == "" || name == r.set) && c.sets[r.set] == nil:
				add(fleet.Event{Type: fleet.EventRemoved, Name: r.set})
			case r.host != "" && name == "" && c.hosts[r.host] == nil:
				add(fleet.Event{Type: fleet.EventRemoved, Host: &fleet.Host{ID: r.host, Labels: map[string]string{}}})
			}
		}
	}
	for _, set := range slices.Sorted(maps.Keys(c.sets)) {
		if name != "" && set != name {
			continue
		}
		s := c.sets[set]
		changed := at == 0 || s.changed > at
		var members []fleet.Event
		for _, id := range c.members(set, s) {
			h := c.hosts[id]
			r := h.reports[set]
			if at > 0 && h.changed <= at && s.changed <= at && (r == nil || r.changed <= at) {
				continue
			}
			changed = true
			if name != "" {
				m := h.state(set, s)
				m.Host = id
				members = append(members, fleet.Event{Type: fleet.EventMember, Name: set, Generation: s.Generation, Member: &m})
			}
		}
		if changed {
			v := c.view(set, s, false)
			add(fleet.Event{Type: fleet.EventSet, Set: &v})
		}
		for _, m := range members {
			add(m)
		}
	}
	if name != "" || at == 0 {
		return frames
	}
	for _, id := range slices.Sorted(maps.Keys(c.hosts)) {
		if h := c.hosts[id]; h.changed > at {
			v := c.viewHost(id, h)
			add(fleet.Event{Type: fleet.EventHost, Host: &v})
		}
	}
	return frames
}
