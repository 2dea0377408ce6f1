package sets

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/claim"
	"github.com/towline/towline/puller/keep/definition"
	"github.com/towline/towline/puller/keep/learned"
)

// Learn says how the set of what containers were started from is made.
type Learn struct {
	For      time.Duration // an image stays in it so long after its last container; 0 for no such set
	Schedule string        // of its refreshes, "" for none
}

// learnedSet makes the set of what containers were started from. Only Run uses it, and Open
// before it.
type learnedSet struct {
	images   *learned.Images
	schedule string
	host     string
	claims   *claim.Claims
	runs     runs
	table    *table
	log      logrus.FieldLogger
}

// openLearned reads what was learned, and makes the set of it. It returns nil where there is
// to be none.
func openLearned(o Options, t *table) (*learnedSet, error) {
	if o.Learn.For <= 0 {
		return nil, nil
	}
	images, err := learned.Open(learned.Options{Service: o.Service, Engine: o.Engine, Records: o.Records, For: o.Learn.For, Log: o.Log})
	if err != nil {
		return nil, err
	}
	l := &learnedSet{images: images, schedule: o.Learn.Schedule, host: o.Host, claims: o.Claims, runs: runs{o.Records, o.Log}, table: t, log: o.Log}
	return l, l.make(images.Names())
}

// update has the learned set be what is known by now. A nil learnedSet does nothing.
func (l *learnedSet) update(ctx context.Context) {
	if l == nil {
		return
	}
	l.images.Learn(ctx)
	all := l.images.Names()
	if l.has(all) {
		return
	}
	l.table.saving.Lock()
	defer l.table.saving.Unlock()
	if err := l.make(all); err != nil {
		l.log.WithError(err).Warn("the learned set can't be changed; it is tried again")
	}
}

// has reports whether the learned set has these images.
func (l *learnedSet) has(all []string) bool {
	l.table.mu.Lock()
	defer l.table.mu.Unlock()
	return slices.EqualFunc(all, l.table.all[keep.LearnedSet].Images, func(name string, r puller.PullRequest) bool { return name == r.Image })
}

// make makes the learned set anew, of images by name. They are there, so no refresh is due.
// saving is held, or not yet needed.
func (l *learnedSet) make(all []string) error {
	r := keep.SetRequest{Schedule: l.schedule}
	r.Caller = keep.LearnedSet
	for _, name := range all {
		r.Images = append(r.Images, puller.PullRequest{Image: name})
	}
	d, err := definition.Define(l.host, keep.LearnedSet, r)
	if err != nil {
		return fmt.Errorf("keep.learn_schedule: %w", err)
	}
	release, err := l.claims.Need(context.Background(), d.Keys())
	if err != nil {
		return err
	}
	defer release()
	old := l.table.get(keep.LearnedSet)
	if err := l.table.hasRoom(old, d); err != nil {
		return err
	}
	one := &set{name: keep.LearnedSet, source: keep.SetFromUsage, changed: now(), Definition: d, lastRun: now()}
	if kept, err := l.runs.load(); err == nil && kept[one.name].Job != "" {
		one.lastRun, one.job = kept[one.name].LastRun, kept[one.name].Job
	}
	l.table.renew(one, old)
	return nil
}
