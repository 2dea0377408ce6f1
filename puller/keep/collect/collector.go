// Package collect lists an engine's images with what keeps each of them, and removes those
// that nothing keeps: to hold the engine's disk below a level, to make room for a pull, or
// because they were not used for long. It never calls an engine's prune. It removes by name,
// unforced, one at a time, and asks all of it again just before each removal.
//
// What it decides is not kept, so a daemon that ends at any moment begins anew. Only the image
// that it is about to remove is: the next start asks the engine what has become of it.
package collect

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/claim"
	"github.com/towline/towline/puller/keep/usage"
	"github.com/towline/towline/puller/retry"
)

// Mode is which images may be collected.
type Mode string

// The modes.
const (
	Off Mode = "off"
	Own Mode = "own" // those that Towline brought
	All Mode = "all"
)

// Options are what a Collector is made with.
type Options struct {
	Engine engines.Engine
	Usage  *usage.Table
	// Protector knows the sets and leases; nil for none.
	Protector keep.Protector
	// Protect returns the pattern that keeps an image of this name. nil is for none.
	Protect func(name string) (pattern string, ok bool)
	// Patterns are all that Protect knows, to tell of those that protect nothing.
	Patterns []string

	Collect Mode
	// High is the used share of the disk, from 0 to 1, from which images are removed
	// until it is below Low.
	High, Low float64
	MinAge    time.Duration // of images that may be removed, since they came or were used
	// MaxUnused is after what time without use an image is removed also where there is
	// room; 0 is for never.
	MaxUnused   time.Duration
	Interval    time.Duration // between two looks at the disk
	MaxPerCycle int
	// Claims keep those away who come to need an image while it is removed. nil is for none.
	Claims *claim.Claims
	// History keeps which images are removed; nil for nobody.
	History History

	Log     logrus.FieldLogger
	Metrics prometheus.Registerer // nil for none
}

// History keeps which images are removed, over the end of the process. The collector calls it
// from one goroutine at a time.
type History interface {
	// Intend keeps that an image is about to be removed. It is on disk by then.
	Intend(c puller.ImageChange)
	// Intended returns the images of which neither Add nor Drop was called since.
	Intended() []puller.ImageChange
	// Add keeps that an image was removed, and tells it.
	Add(c puller.ImageChange)
	// Drop forgets that an image was to be removed, by its ID.
	Drop(id string)
}

// failureWait is how long an image is left alone whose removal has failed.
const failureWait = time.Hour

// Collector implements keep.Collector. Its methods may be called from anywhere.
type Collector struct {
	opts    Options
	service atomic.Pointer[puller.Service] // nil until Run
	metrics metrics

	cycle sync.Mutex // held by the one collection that goes on

	mu      sync.Mutex
	failed  map[string]time.Time // until when an image is left alone, by ID
	blocked string               // what was last logged to stand in the way
	idle    map[string]bool      // patterns of which it was logged that they protect nothing
}

var _ keep.Collector = (*Collector)(nil)

// New returns a Collector. It collects nothing before Run is called.
func New(o Options) *Collector {
	return &Collector{opts: o, metrics: newMetrics(o), failed: make(map[string]time.Time), idle: make(map[string]bool)}
}

// Run looks at the disk, and collects, until ctx ends. It returns nil. It is called once.
// The service says which images active jobs want.
func (c *Collector) Run(ctx context.Context, service puller.Service) error {
	c.service.Store(&service)
	for wait := (retry.Backoff{Most: c.opts.Interval}); c.settle(ctx) != nil; {
		if !wait.Wait(ctx) {
			return nil
		}
	}
	if c.opts.Collect == Off {
		return nil
	}
	tick := time.NewTicker(c.opts.Interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := c.look(ctx); err != nil && ctx.Err() == nil {
				c.opts.Log.WithError(err).Warn("images can't be collected now")
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// look collects where there is a need.
func (c *Collector) look(ctx context.Context) error {
	disk, err := c.opts.Engine.Disk(ctx)
	if err != nil {
		return err
	}
	full := disk != nil && disk.Used() >= c.opts.High
	if !full && c.opts.MaxUnused == 0 {
		c.tellBlocked("")
		return nil
	}
	g := goal{unused: c.opts.MaxUnused, limit: c.opts.MaxPerCycle}
	if full {
		g.low = c.opts.Low
	}
	done, err := c.collect(ctx, g, false)
	if err == nil {
		c.tellBlocked(done.Blocked)
	}
	return err
}

// Collect implements keep.Collector.
func (c *Collector) Collect(ctx context.Context, dryRun bool) (keep.Collection, error) {
	if c.opts.Collect == Off && !dryRun {
		return keep.Collection{}, puller.Errorf(puller.ErrConflict, "keep.collect is off, so nothing may be collected; set it to own or all, or ask for the plan")
	}
	return c.collect(ctx, goal{low: c.opts.Low, unused: c.opts.MaxUnused, limit: c.opts.MaxPerCycle}, dryRun)
}

// Free collects until so many bytes are free. It returns the disk as it is then, nil where
// it is not known, and what stands in the way where there are fewer.
func (c *Collector) Free(ctx context.Context, bytes int64) (disk *puller.Disk, blocked string, err error) {
	if c.opts.Collect == Off || c.service.Load() == nil {
		disk, err = c.opts.Engine.Disk(ctx)
		return disk, "keep.collect is off", err
	}
	done, err := c.collect(ctx, goal{free: bytes}, false)
	return done.After, done.Blocked, err
}

// tellIdle logs which patterns protect nothing, once until they do: they may be mistyped.
func (c *Collector) tellIdle(images []image) {
	protect := make(map[string]bool)
	for _, i := range images {
		for _, k := range i.kept {
			protect[k.Detail] = protect[k.Detail] || k.Reason == keep.ReasonProtected
		}
	}
	var idle []string
	c.mu.Lock()
	for _, pattern := range c.opts.Patterns {
		if !protect[pattern] && !c.idle[pattern] {
			idle = append(idle, pattern)
		}
		c.idle[pattern] = !protect[pattern]
	}
	c.mu.Unlock()
	for _, pattern := range idle {
		c.opts.Log.Warnf("keep.protect: the pattern %q protects no image that the engine has", pattern)
	}
}

// tellBlocked logs what stands in the way of a collection, once each time that it changes.
func (c *Collector) tellBlocked(blocked string) {
	c.mu.Lock()
	before := c.blocked
	c.blocked = blocked
	c.mu.Unlock()
	switch {
	case blocked == before:
	case blocked == "":
		c.opts.Log.Info("the engine's disk has room again")
	default:
		c.opts.Log.Warn(blocked)
	}
}
