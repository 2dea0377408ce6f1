package transfer

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream/pullstream"
)

// watchdog ends an attempt without progress. Messages alone are no progress: an engine
// may repeat one line for ever.
type watchdog struct {
	image          string
	stall, extract time.Duration
	cancel         context.CancelCauseFunc
	advance        *lastAdvance

	mu      sync.Mutex
	timer   *time.Timer
	waiting bool // all that is left of the layers waits for the engine to begin
}

// lastAdvance is when any transfer last got on. An engine works on a few layers
// at a time, for all its pulls (three, unless it is told otherwise): a pull
// whose layers wait does not stand still while another one gets on.
type lastAdvance struct {
	start time.Time
	since atomic.Int64 // the time since start
}

func (a *lastAdvance) note() { a.since.Store(int64(time.Since(a.start))) }

func (a *lastAdvance) within(d time.Duration) bool {
	return time.Since(a.start)-time.Duration(a.since.Load()) < d
}

// watch returns a context for an attempt, which ends as ErrStalled when the
// engine's first message does not come in time, or progress stops. A limit of 0
// is none. The watchdog must be stopped.
func (s *Transfers) watch(ctx context.Context, image string) (context.Context, *watchdog) {
	o := &s.opts
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watchdog{image: image, stall: o.StallTimeout, extract: o.ExtractStallTimeout, cancel: cancel, advance: &s.advance}
	w.arm(o.FirstByteTimeout, "the engine has told nothing of its pull for %s")
	return ctx, w
}

// note takes in a message and what it changed.
func (w *watchdog) note(first bool, change pullstream.Change, p *pullstream.Progress) {
	w.mu.Lock()
	w.waiting = p.Waiting()
	w.mu.Unlock()
	if change.Advanced {
		w.advance.note()
	}
	switch {
	case !first && !change.Advanced:
	case p.Extracting():
		w.arm(w.extract, "no layer has got on for %s, while one was extracted")
	default:
		w.arm(w.stall, "nothing has been downloaded for %s")
	}
}

func (w *watchdog) arm(limit time.Duration, why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	if limit > 0 {
		stalled := &puller.Error{Op: "pull", Ref: w.image, Kind: puller.ErrStalled, Err: fmt.Errorf(why, limit)}
		var timer *time.Timer
		timer = time.AfterFunc(limit, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			switch {
			case w.timer != timer: // it was armed anew meanwhile
			case w.waiting && w.advance.within(limit):
				timer.Reset(limit)
			default:
				w.cancel(stalled)
			}
		})
		w.timer = timer
	}
}

func (w *watchdog) stop() {
	w.arm(0, "")
	w.cancel(nil)
}
