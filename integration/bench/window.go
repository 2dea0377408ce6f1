package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/towline/towline/integration/lab"
)

// window is what was measured from when a held pull is let go, with all readers
// there, until the last reader has got its end.
type window struct {
	report
	attached       attached
	server, engine time.Duration // of the processors
	pull           time.Duration // from then on to its end, where that is known
	// Resident bytes of the server: without readers, with readers that get
	// nothing, and the most there were then.
	empty, idle, busy int64
}

// perEvent returns the server's use of the processors, less another, for an event
// that a reader got, in µs.
func (w *window) perEvent(less time.Duration) float64 {
	return (w.server - less).Seconds() * 1e6 / float64(w.Lines)
}

// perSecond is the same for a reader and a second, in µs.
func (w *window) perSecond(less time.Duration) float64 {
	return (w.server - less).Seconds() * 1e6 / float64(w.attached.Readers) / w.Seconds
}

// watched has a window opened.
type watched struct {
	task    readersTask
	server  int                                  // its process
	ready   func(context.Context) error          // waits until there is something to let go
	release func() error                         // lets it go
	idle    func(ctx context.Context) error      // is called with readers that get nothing; may be nil
	engine  func() (used time.Duration, _ error) // may be nil
}

func (v *watched) open(ctx context.Context) (w *window, err error) {
	w = &window{}
	if w.empty, err = lab.Resident(v.server); err != nil {
		return nil, err
	}
	v.task.Attach = attachWithin
	readers, err := startChild(ctx, "readers", v.task, "GOGC=400")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, readers.end()) }()
	if err := readers.answer(&w.attached); err != nil {
		return nil, err
	}
	if w.attached.Readers == 0 {
		return nil, errors.New("no reader got anything")
	}
	if err := v.ready(ctx); err != nil {
		return nil, err
	}
	if w.idle, err = lab.Resident(v.server); err != nil {
		return nil, err
	}
	if v.idle != nil {
		if err := v.idle(ctx); err != nil {
			return nil, err
		}
	}
	if err := readers.order("count"); err != nil {
		return nil, err
	}
	if err := readers.answer(&w.attached); err != nil {
		return nil, err
	}
	if err := v.measure(ctx, w, readers); err != nil {
		return nil, err
	}
	// The engine may do as badly as it does.
	if w.Faults > 0 && !v.task.Docker {
		return w, fmt.Errorf("%d readers did not get what they should have got; the first: %s", w.Faults, w.Fault)
	}
	return w, nil
}

// measure lets go, and waits for the readers' report.
func (v *watched) measure(ctx context.Context, w *window, readers *child) error {
	used := func() (server, engine time.Duration, err error) {
		if server, err = lab.CPU(v.server); err == nil && v.engine != nil {
			engine, err = v.engine()
		}
		return server, engine, err
	}
	server, engine, err := used()
	if err != nil {
		return err
	}
	if err := v.release(); err != nil {
		return err
	}
	reported := make(chan error, 1)
	go func() { reported <- readers.answer(&w.report) }()
	sample := time.NewTicker(100 * time.Millisecond)
	defer sample.Stop()
	for {
		select {
		case err = <-reported:
			if err != nil {
				return err
			}
			w.server, w.engine, err = used()
			w.server -= server
			w.engine -= engine
			return err
		case <-sample.C:
			now, err := lab.Resident(v.server)
			if err != nil {
				return err
			}
			w.busy = max(w.busy, now)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
