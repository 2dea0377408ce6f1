package control

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/puller/fleet"
)

// lease says which controller acts.
type lease struct {
	Host    string `json:"host"`
	Session string `json:"session"`
	Renewed uint64 `json:"renewed"` // how often
}

// lead takes the lease when nobody has it, and renews it, until ctx ends. Two controllers
// that think that they have it do no harm: each write is a compare-and-set.
func (c *Controller) lead(ctx context.Context, s *session) error {
	mine := lease{Host: c.o.Host, Session: c.o.Session}
	var revision uint64 // of the lease as it was seen last
	seen := time.Now()  // when that was
	var renewed time.Time
	defer func() {
		if c.setLeading(false, "") {
			// Another one need not wait.
			limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			s.leads.Delete(limit, fleet.LeadKey, jetstream.LastRevision(revision))
		}
	}()
	for {
		leading := c.isLeading()
		limit, cancel := context.WithTimeout(ctx, c.o.renewEvery())
		if leading {
			mine.Renewed++
			r, err := s.leads.Update(limit, fleet.LeadKey, fleet.Encode(mine), revision)
			if err == nil {
				revision, renewed = r, time.Now()
			} else if time.Since(renewed) >= c.o.leaseFor()-c.o.renewEvery() || isConflict(err) {
				c.o.Log.WithError(err).Warn("this controller of the fleet does not act any more: its lease was not renewed")
				c.setLeading(false, "")
				seen = time.Now()
			}
		} else {
			holder := lease{}
			e, err := s.leads.Get(limit, fleet.LeadKey)
			if err == nil && json.Unmarshal(e.Value(), &holder) != nil {
				holder = lease{}
			}
			free := isMissing(err)
			if err == nil && e.Revision() != revision {
				revision, seen = e.Revision(), time.Now()
			}
			c.setLeading(false, holder.Host)
			if free || err == nil && (time.Since(seen) >= c.o.leaseFor() || holder.Session == mine.Session) {
				var r uint64
				if free {
					r, err = s.leads.Create(limit, fleet.LeadKey, fleet.Encode(mine))
				} else {
					r, err = s.leads.Update(limit, fleet.LeadKey, fleet.Encode(mine), revision)
				}
				if err == nil {
					revision, renewed = r, time.Now()
					c.setLeading(true, mine.Host)
					c.o.Log.WithField("before", holder.Host).Info("this controller of the fleet acts")
				}
			}
		}
		cancel()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(c.o.renewEvery()):
		}
	}
}

func (c *Controller) isLeading() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leading
}

// setLeading reports whether this controller acted before.
func (c *Controller) setLeading(leading bool, leader string) (before bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before = c.leading
	if c.leading, c.known.Leader = leading, leader; leading != before {
		c.known.Touch()
		c.nudge()
	}
	return before
}

// act has the fleet come to what it is to be, step by step, until ctx ends.
func (c *Controller) act(ctx context.Context, s *session) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		ticks := time.NewTicker(c.o.tickEvery())
		defer ticks.Stop()
		for {
			c.mu.Lock()
			if c.known.Expire(c.o.liveFor()) {
				c.nudge()
			}
			leading := c.leading
			var due []string
			if leading {
				due = c.known.Due(time.Now())
			}
			c.mu.Unlock()
			if leading {
				for _, name := range due {
					group.Go(func() error {
						c.resolveAgain(ctx, s, name)
						return nil
					})
				}
				c.reconcile(ctx, s)
				c.sweep(ctx, s)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-ticks.C:
			case <-c.wake:
				// What comes together is done together.
				select {
				case <-ctx.Done():
				case <-time.After(together):
				}
			}
		}
	})
	return group.Wait()
}

const (
	together = 50 * time.Millisecond
	// writers is how many records are written at a time.
	writers = 256
)

// reconcile steps the rollouts, and writes what hosts are to have. It may end anywhere: the
// next one, of whatever controller, goes on from what is kept.
func (c *Controller) reconcile(ctx context.Context, s *session) {
	c.mu.Lock()
	steps := c.known.Steps()
	c.mu.Unlock()
	for name, step := range steps {
		if step.Changed && !c.keepRollout(ctx, s, name, step) {
			return // another one acts, or NATS does not answer: the next time finds out
		}
	}
	c.mu.Lock()
	writes := c.known.Writes()
	c.mu.Unlock()
	var group errgroup.Group
	group.SetLimit(writers)
	for id, w := range writes {
		if w.Fault != nil {
			c.o.Log.WithField("host", id).Error(w.Fault)
			continue
		}
		group.Go(func() error {
			limit, cancel := context.WithTimeout(ctx, callLimit)
			defer cancel()
			revision, err := s.desired.Update(limit, id, w.Value, w.Revision)
			if err == nil {
				c.mu.Lock()
				defer c.mu.Unlock()
				if h := c.known.Hosts[id]; h != nil && revision > h.Revision {
					h.Desired, h.Revision, h.Touched = &w.Desired, revision, c.known.Touch()
				}
			} else if isConflict(err) {
				c.learnRevision(limit, s, id)
			} else if ctx.Err() == nil {
				c.o.Log.WithField("host", id).WithError(err).Warn("what a host is to have could not be written; it is tried again")
			}
			return nil
		})
	}
	group.Wait()
}

// learnRevision asks which revision the record of a host has: that of its deletion, where the
// host was removed once, or that of another controller.
func (c *Controller) learnRevision(ctx context.Context, s *session, id string) {
	entries, err := s.desired.History(ctx, id)
	if err != nil || len(entries) == 0 {
		return
	}
	c.applyDesired(entries[len(entries)-1])
}

// sweep removes reports that nobody reads, those of some hosts at a time.
func (c *Controller) sweep(ctx context.Context, s *session) {
	const hosts = 20
	c.mu.Lock()
	keys := c.known.Strays(hosts)
	c.mu.Unlock()
	if len(keys) == 0 {
		return
	}
	limit, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	stream, err := s.js.Stream(limit, fleet.Stream(c.names.Reports()))
	for _, key := range keys {
		host, set := hostOf(key)
		if set == ">" {
			c.fault(host, "reports", errors.New("it writes many reports of sets that it is not to have; all of its reports are removed"))
		}
		if err == nil {
			err = stream.Purge(limit, jetstream.WithPurgeSubject(fleet.Key(c.names.Reports(), key)))
		}
	}
}

// purgeHost removes all that a host has said.
func purgeHost(ctx context.Context, stream jetstream.Stream, bucket, id string) error {
	for _, key := range []string{id, id + ".>"} {
		if err := stream.Purge(ctx, jetstream.WithPurgeSubject(fleet.Key(bucket, key))); err != nil {
			return err
		}
	}
	return nil
}
