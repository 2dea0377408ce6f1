package control

import (
	"context"
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/puller/fleet"
)

const together = 50 * time.Millisecond // what comes at once

// lease says which controller acts.
type lease struct {
	Host    string `json:"host"`
	Session string `json:"session"`
	Renewed uint64 `json:"renewed"` // how often
}

// leader has the fleet come to what it is to be, while this controller has the lease. It lasts
// as long as its records.
type leader struct {
	o       Options
	state   *state
	heard   *listener
	records *records
}

// lead takes the lease when nobody has it, and renews it, until ctx ends. Two controllers
// that think that they have it do no harm: each write is a compare-and-set.
func (l *leader) lead(ctx context.Context) error {
	mine := lease{Host: l.o.Host, Session: l.o.Session}
	var revision uint64 // of the lease as it was seen last
	seen := time.Now()  // when that was
	var renewed time.Time
	defer func() {
		if l.state.setLeading(false, "") {
			// Another one need not wait.
			limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			l.records.leads.Delete(limit, fleet.LeadKey, jetstream.LastRevision(revision))
		}
	}()
	for {
		leading := l.state.isLeading()
		limit, cancel := context.WithTimeout(ctx, l.o.renewEvery())
		if leading {
			mine.Renewed++
			r, err := l.records.leads.Update(limit, fleet.LeadKey, fleet.Encode(mine), revision)
			if err == nil {
				revision, renewed = r, time.Now()
			} else if time.Since(renewed) >= l.o.leaseFor()-l.o.renewEvery() || isConflict(err) {
				l.o.Log.WithError(err).Warn("this controller of the fleet does not act any more: its lease was not renewed")
				l.state.setLeading(false, "")
				seen = time.Now()
			}
		} else {
			holder := lease{}
			e, err := l.records.leads.Get(limit, fleet.LeadKey)
			if err == nil && json.Unmarshal(e.Value(), &holder) != nil {
				holder = lease{}
			}
			free := isMissing(err)
			if err == nil && e.Revision() != revision {
				revision, seen = e.Revision(), time.Now()
			}
			l.state.setLeading(false, holder.Host)
			if free || err == nil && (time.Since(seen) >= l.o.leaseFor() || holder.Session == mine.Session) {
				var r uint64
				if free {
					r, err = l.records.leads.Create(limit, fleet.LeadKey, fleet.Encode(mine))
				} else {
					r, err = l.records.leads.Update(limit, fleet.LeadKey, fleet.Encode(mine), revision)
				}
				if err == nil {
					revision, renewed = r, time.Now()
					l.state.setLeading(true, mine.Host)
					l.o.Log.WithField("before", holder.Host).Info("this controller of the fleet acts")
				}
			}
		}
		cancel()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(l.o.renewEvery()):
		}
	}
}

// act has the fleet come to what it is to be, step by step, until ctx ends.
func (l *leader) act(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		ticks := time.NewTicker(l.o.tickEvery())
		defer ticks.Stop()
		for {
			l.state.mu.Lock()
			if l.state.known.Expire(l.o.liveFor()) {
				l.state.nudge()
			}
			leading := l.state.leading
			var due []string
			if leading {
				due = l.state.known.Due(time.Now())
			}
			l.state.mu.Unlock()
			if leading {
				for _, name := range due {
					group.Go(func() error {
						l.resolveAgain(ctx, name)
						return nil
					})
				}
				l.reconcile(ctx)
				l.sweep(ctx)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-ticks.C:
			case <-l.state.wake:
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
