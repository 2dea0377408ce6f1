// Package learned knows what the containers of an engine were started from in the last days.
package learned

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/names"
	"github.com/towline/towline/puller/store"
)

// Engine is what is asked of an engine.
type Engine interface {
	AllContainers(ctx context.Context) ([]engines.ContainerState, error)
	Events(ctx context.Context, since time.Time, each func(engines.Event)) error
}

// Options are what Images are made with.
type Options struct {
	Service puller.Service
	Engine  Engine
	Records store.Records
	For     time.Duration // an image is known so long after its last container
	Log     logrus.FieldLogger
}

const (
	kind      = "set-learned" // has one record, of that key:
	key       = "images"
	maxImages = 500              // those that were used last stay
	maxHeard  = 2 * maxImages    // names that wait to be looked at
	hearAgain = 5 * time.Second  // after the engine's events have ended
	saveTimes = 10 * time.Minute // at least so long between two writes for the times alone
	// lookLimit is how long a look at the engine may take.
	lookLimit = 30 * time.Second
)

// Images are what containers were started from. Their methods may be called from anywhere.
type Images struct {
	o Options

	mu     sync.Mutex
	heard  map[string]time.Time // since the last Learn, by full name
	images map[string]time.Time // with their last use
	saved  time.Time
}

// Open reads what was learned. Run must be called for more to be.
func Open(o Options) (*Images, error) {
	l := &Images{o: o, heard: make(map[string]time.Time), images: make(map[string]time.Time)}
	values, err := o.Records.Load(kind)
	if err != nil {
		return nil, err
	}
	if value := values[key]; value != nil {
		if err := json.Unmarshal(value, &l.images); err != nil {
			return nil, fmt.Errorf("what was learned: %w", err)
		}
	}
	return l, nil
}

// Names returns the images by name.
func (l *Images) Names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.images))
}

// Run follows the engine's containers until ctx ends.
func (l *Images) Run(ctx context.Context) {
	for ctx.Err() == nil {
		l.o.Engine.Events(ctx, time.Time{}, func(e engines.Event) {
			switch {
			case e.Type == engines.EventConnected:
				l.scan(ctx)
			case e.Type == engines.EventContainer && e.Action == "start":
				l.note(e.Image, now())
			}
		})
		select {
		case <-ctx.Done():
		case <-time.After(hearAgain):
		}
	}
}

// scan notes what the containers that there are were made from.
func (l *Images) scan(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	all, err := l.o.Engine.AllContainers(ctx)
	if err != nil {
		l.o.Log.WithError(err).Warn("the engine does not list its containers; the learned set has only those that start from now on")
		return
	}
	for _, c := range all {
		switch {
		case c.Running:
			l.note(c.Image, now())
		case c.Started:
			l.note(c.Image, c.Created)
		}
	}
}

// note keeps that a container of an image was started. An ID is none that can be pulled.
func (l *Images) note(image string, at time.Time) {
	full, named, err := puller.ParseImage(image)
	if err != nil || named == nil || at.After(now()) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.heard[full]; (ok || len(l.heard) < maxHeard) && at.After(known) {
		l.heard[full] = at
	}
}

// Learn takes up what was heard, forgets what was not used for too long, and keeps that. It is
// called by one goroutine at a time.
func (l *Images) Learn(ctx context.Context) {
	l.mu.Lock()
	heard := l.heard
	l.heard = make(map[string]time.Time)
	images := maps.Clone(l.images)
	l.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(heard)) {
		if _, known := images[name]; known || l.comesFromRegistry(ctx, name) {
			images[name] = later(images[name], heard[name])
		}
	}
	oldest := now().Add(-l.o.For)
	maps.DeleteFunc(images, func(_ string, at time.Time) bool { return at.Before(oldest) })
	byUse := slices.SortedFunc(maps.Keys(images), func(a, b string) int { return images[b].Compare(images[a]) })
	for _, name := range byUse[min(len(byUse), maxImages):] {
		delete(images, name)
	}
	l.mu.Lock()
	same := slices.Equal(slices.Sorted(maps.Keys(images)), slices.Sorted(maps.Keys(l.images)))
	due := !maps.EqualFunc(images, l.images, time.Time.Equal) && time.Since(l.saved) >= saveTimes
	l.images = images
	l.mu.Unlock()
	if same && !due {
		return
	}
	value, err := json.Marshal(images)
	if err == nil {
		err = l.o.Records.Save(kind, map[string][]byte{key: value})
	}
	if err != nil {
		l.o.Log.WithError(err).Warn("what containers were started from could not be kept; a restart forgets it")
	}
	l.mu.Lock()
	l.saved = time.Now()
	l.mu.Unlock()
}

// now returns what the system's clock says.
func now() time.Time { return time.Now().Round(0).UTC() }

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// comesFromRegistry reports whether an image is there and has a digest of its registry: one
// that was only built here can't be pulled.
func (l *Images) comesFromRegistry(ctx context.Context, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	here, err := l.o.Service.Image(ctx, name, "", nil)
	return err == nil && len(here.Digests(names.ParseName(name).Repository)) > 0
}
