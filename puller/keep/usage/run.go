package usage

import (
	"context"
	"errors"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/retry"
	"github.com/towline/towline/stream"
)

const (
	// batch is how long sightings are gathered before a list resolves them. So the
	// engine is asked for its images and its containers at most once in this time,
	// however many containers are started.
	batch = time.Minute
	// reconnectWait is the longest wait between two tries to follow the engine's events.
	reconnectWait = 30 * time.Second
	// maxLooks is how many containers are looked at at a time.
	maxLooks = 8
	// lastSave is how long the last save may take when ctx has ended.
	lastSave = 2 * time.Second
)

// Run follows the engine's events and the results of jobs until ctx ends. It returns nil.
// It is called once, after Load.
func (t *Table) Run(ctx context.Context, service puller.Service) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { t.followEngine(ctx); return nil })
	group.Go(func() error { t.followJobs(ctx, service); return nil })
	group.Go(func() error { t.resolveAll(ctx); return nil })
	group.Go(func() error { t.evidence.run(ctx); return nil })
	return group.Wait()
}

// followEngine follows the engine's events, and asks for what it has missed after each
// time that it could not.
func (t *Table) followEngine(ctx context.Context) {
	wait := retry.Backoff{Most: reconnectWait}
	for {
		connected, err := t.followEvents(ctx)
		if ctx.Err() != nil {
			return
		}
		if connected {
			wait.Reset()
			t.opts.Log.WithError(err).Info("the engine's events have ended; they are followed again")
		}
		if !wait.Wait(ctx) {
			return
		}
	}
}

// followEvents follows the engine's events until they end.
func (t *Table) followEvents(outer context.Context) (connected bool, err error) {
	ctx, cancel := context.WithCancel(outer)
	scanned := make(chan struct{})
	scan := func() {
		defer close(scanned)
		if err := t.scan(ctx); err != nil && ctx.Err() == nil {
			t.opts.Log.WithError(err).Warn("the engine's images and containers could not be listed; what came meanwhile counts as somebody else's")
		}
	}
	err = t.opts.Engine.Events(ctx, time.Time{}, func(v engines.Event) {
		if v.Type == engines.EventConnected && !connected {
			connected = true
			go scan()
			return
		}
		t.note(v)
	})
	cancel()
	if connected {
		<-scanned
	}
	if outer.Err() == nil { // else the last list may still say who brought what
		t.evidence.missed()
	}
	return connected, err
}

// scan lists the images, and looks when each container was last running. From then on all
// images are known.
func (t *Table) scan(ctx context.Context) error {
	found, err := t.Snapshot(ctx, false)
	if err != nil {
		return err
	}
	if ctx.Err() == nil {
		t.evidence.connect()
	}
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(maxLooks)
	for _, c := range found.Containers {
		group.Go(func() error {
			at := time.Now()
			if !c.Running {
				var err error
				if at, err = t.opts.Engine.Ran(inner, c.ID); err != nil && inner.Err() == nil {
					at = c.Created // it was removed meanwhile, or the engine can't read it
				}
				if at.Before(c.Created) {
					at = c.Created
				}
			}
			t.mu.Lock()
			defer t.mu.Unlock()
			t.seen.container(c.ID, c.ImageID, at)
			return nil
		})
	}
	group.Wait()
	t.resolveNow(ctx) // the first checkpoint
	return nil
}

// note notes an event of the engine.
func (t *Table) note(v engines.Event) {
	t.mu.Lock()
	t.seen.event(v)
	if _, known := t.records.byID[v.ID]; known && v.Type == engines.EventImage && v.Action == "delete" {
		t.records.drop(v.ID)
	}
	waiting := !t.seen.empty()
	t.mu.Unlock()
	if v.Type == engines.EventImage {
		t.evidence.witness(v)
	}
	if waiting {
		t.rouse()
	}
}

// rouse has resolveAll begin, if it waits.
func (t *Table) rouse() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// followJobs follows the results of jobs.
func (t *Table) followJobs(ctx context.Context, service puller.Service) {
	for ctx.Err() == nil {
		_, sub, err := service.WatchAll("", "", nil)
		if err != nil {
			return // the service has closed
		}
		sub.Every = time.Minute // no layer is read
		for err == nil {
			var events *stream.Batch
			if events, err = sub.Next(ctx, time.Hour); err == nil && events != nil {
				t.noteBatch(events)
			}
		}
		if errors.Is(err, io.EOF) {
			return // the service has closed
		}
		if retry.Sleep(ctx, time.Second) != nil {
			return
		}
	}
}

func (t *Table) noteBatch(b *stream.Batch) {
	for _, frame := range b.Frames() {
		if frame.Type != "result" {
			continue
		}
		var v puller.Event
		if err := frame.Decode(&v); err != nil || v.Result == nil {
			continue
		}
		t.mu.Lock()
		t.seen.job(v.Result)
		t.mu.Unlock()
		t.rouse()
	}
}

// resolveAll resolves what was seen, and saves it, in batches.
func (t *Table) resolveAll(ctx context.Context) {
	for {
		select {
		case <-t.wake:
		case <-ctx.Done():
			t.last()
			return
		}
		if retry.Sleep(ctx, batch) != nil {
			t.last()
			return
		}
		t.resolveNow(ctx)
	}
}

// last resolves and saves when ctx has ended.
func (t *Table) last() {
	ctx, cancel := context.WithTimeout(context.Background(), lastSave)
	defer cancel()
	t.resolveNow(ctx)
	if err := t.evidence.end(); err != nil {
		t.opts.Log.WithError(err).Warn("what was seen of images can't be saved; who brought the last of them may not be known")
	}
}

// waiting reports whether a list is to resolve what was seen. Another caller's list that is under
// way has taken that, and may give it back: so it waits for the end of that.
func (t *Table) waiting(ctx context.Context) (bool, error) {
	if err := t.list(ctx); err != nil {
		return false, err
	}
	defer t.listed()
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.seen.empty(), nil
}

// resolveNow resolves what was seen, and saves it.
func (t *Table) resolveNow(ctx context.Context) {
	// One at a time: a second one would count what the first one has not saved yet as saved,
	// and the events before its own mark as still there.
	t.resolving <- struct{}{}
	defer func() { <-t.resolving }()
	upTo := t.evidence.mark() // before the list: what was witnessed by now is among what that takes up
	waiting, listed := t.waiting(ctx)
	if waiting {
		_, listed = t.Snapshot(ctx, false)
	}
	if listed != nil {
		if ctx.Err() == nil {
			t.opts.Log.WithError(listed).Debug("the engine's images can't be listed")
		}
		t.rouse() // in the next batch
	}
	err := t.save()
	if err == nil && listed == nil {
		err = t.evidence.checkpoint(upTo)
	}
	if err != nil {
		t.opts.Log.WithError(err).Warn("the last uses of images can't be saved; they are in the next batch")
		t.rouse()
	}
}
