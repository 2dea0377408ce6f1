package control

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/known"
	"github.com/towline/towline/puller/fleet/pins"
)

// writers is how many records are written at a time.
const writers = 256

// reconcile steps the rollouts, and writes what hosts are to have. It may end anywhere: the
// next one, of whatever controller, goes on from what is kept.
func (l *leader) reconcile(ctx context.Context) {
	l.state.mu.Lock()
	steps := l.state.known.Steps()
	l.state.mu.Unlock()
	for name, step := range steps {
		if step.Changed && !l.keepRollout(ctx, name, step) {
			return // another one acts, or NATS does not answer: the next time finds out
		}
	}
	l.state.mu.Lock()
	writes := l.state.known.Writes()
	l.state.mu.Unlock()
	var group errgroup.Group
	group.SetLimit(writers)
	for id, w := range writes {
		if w.Fault != nil {
			l.o.Log.WithField("host", id).Error(w.Fault)
			continue
		}
		group.Go(func() error {
			limit, cancel := context.WithTimeout(ctx, callLimit)
			defer cancel()
			revision, err := l.records.desired.Update(limit, id, w.Value, w.Revision)
			if err == nil {
				l.state.mu.Lock()
				defer l.state.mu.Unlock()
				if h := l.state.known.Hosts[id]; h != nil && revision > h.Revision {
					h.Desired, h.Revision, h.Touched = &w.Desired, revision, l.state.known.Touch()
				}
			} else if isConflict(err) {
				l.learnRevision(limit, id)
			} else if ctx.Err() == nil {
				l.o.Log.WithField("host", id).WithError(err).Warn("what a host is to have could not be written; it is tried again")
			}
			return nil
		})
	}
	group.Wait()
}

// keepRollout keeps how far a rollout is, before anything follows from it.
func (l *leader) keepRollout(ctx context.Context, name string, step known.Step) bool {
	r := *step.Set.Record
	r.Rollout = step.Next
	if err := l.records.keep(ctx, name, &r, step.Set.Revision); err != nil {
		if !isConflict(err) && ctx.Err() == nil {
			l.o.Log.WithField("set", name).WithError(err).Warn("the rollout of a set could not be kept; it is tried again")
		}
		return false
	}
	log := l.o.Log.WithFields(logrus.Fields{"set": name, "generation": r.Generation, "wave": r.Rollout.Wave, "state": r.Rollout.State})
	if r.Rollout.State == fleet.RolloutStopped {
		log.WithField("reason", r.Rollout.Reason).Error("the rollout of a set has stopped")
	} else {
		log.Info("the rollout of a set goes on")
	}
	return true
}

const resolveAgainAfter = 2 * time.Minute // a fault

// resolveAgain resolves the tags of a set by its schedule. Where one has moved, the set gets
// a new generation, which is rolled out.
func (l *leader) resolveAgain(ctx context.Context, name string) {
	l.state.mu.Lock()
	old := l.state.known.Sets[name]
	l.state.mu.Unlock()
	if old == nil {
		return
	}
	images, err := pins.Resolve(ctx, l.o.Registry, old.Request.Images, nil, l.state.platforms(name, old.Request))
	r := *old.Record
	r.Resolved, r.Controller = known.Now(), l.o.Host
	moved := err == nil && fleet.SumOf(images) != old.Sum
	if moved {
		r = *succeed(&r, images, l.o.Host)
	}
	if err == nil {
		err = l.records.keep(ctx, name, &r, old.Revision)
	}
	l.state.mu.Lock()
	defer l.state.mu.Unlock()
	current := l.state.known.Sets[name]
	if current == nil {
		return
	}
	current.Busy = false
	switch {
	case err == nil:
		current.Fault, current.RetryAt = "", time.Time{}
		if moved {
			l.o.Log.WithFields(logrus.Fields{"set": name, "generation": r.Generation}).Info("a tag of a set has moved: the set has a new generation")
		}
	case isConflict(err): // it has changed meanwhile: it is looked at again
	case ctx.Err() == nil:
		if current.Fault == "" {
			l.o.Log.WithField("set", name).WithError(err).Error("the tags of a set can't be resolved again; it stays as it is, and is tried again")
		}
		current.Fault, current.RetryAt = err.Error(), time.Now().Add(max(resolveAgainAfter, puller.RetryAfterOf(err)))
		current.Touched = l.state.known.Touch()
	}
}

// learnRevision asks which revision the record of a host has: that of its deletion, where the
// host was removed once, or that of another controller.
func (l *leader) learnRevision(ctx context.Context, id string) {
	entries, err := l.records.desired.History(ctx, id)
	if err != nil || len(entries) == 0 {
		return
	}
	l.heard.desired(entries[len(entries)-1])
}

// sweep removes reports that nobody reads, those of some hosts at a time.
func (l *leader) sweep(ctx context.Context) {
	const hosts = 20
	l.state.mu.Lock()
	keys := l.state.known.Strays(hosts)
	l.state.mu.Unlock()
	if len(keys) == 0 {
		return
	}
	limit, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	stream, err := l.records.js.Stream(limit, fleet.Stream(l.records.names.Reports()))
	for _, key := range keys {
		host, set := hostOf(key)
		if set == ">" {
			l.heard.fault(host, "reports", errors.New("it writes many reports of sets that it is not to have; all of its reports are removed"))
		}
		if err == nil {
			err = stream.Purge(limit, jetstream.WithPurgeSubject(fleet.Key(l.records.names.Reports(), key)))
		}
	}
}
