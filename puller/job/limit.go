package job

import (
	"context"
	"fmt"
	"time"

	"github.com/towline/towline/puller"
)

// timeLimit ends a job when its time is up. The job's lock guards it.
type timeLimit struct {
	length   time.Duration // 0 is without limit
	timer    *time.Timer   // nil until start
	deadline time.Time     // zero for none
}

// start has the time run from now on, unless it does so already. The job's work is left
// at its end.
func (l *timeLimit) start(j *Job) {
	if l.timer != nil || l.length == 0 {
		return
	}
	l.deadline = time.Now().Add(l.length)
	work, length := j.work, l.length
	l.timer = time.AfterFunc(length, func() { work.Leave(late(j.Snapshot(), length)) })
}

// late is why a job ends whose time is up: it says how far the job came.
func late(v puller.Job, length time.Duration) error {
	at := string(v.State)
	if v.Phase != "" {
		at = string(v.Phase)
	}
	if t := v.Progress; t != nil && t.Layers > 0 && v.Phase == puller.PhasePulling {
		at += fmt.Sprintf(", with %.1f MB", float64(t.Downloaded)/1e6)
		if t.Total > 0 {
			at += fmt.Sprintf(" of %.1f MB", float64(t.Total)/1e6)
		}
		at += fmt.Sprintf(" downloaded and %d of %d layers done", t.LayersDone, t.Layers)
	}
	return puller.Errorf(puller.ErrTimeout, "%s: timeout: not done within %s; it was %s; set a longer timeout", v.Image, length, at)
}

func (l *timeLimit) stop() {
	if l.timer != nil {
		l.timer.Stop()
	}
}

// lasts reports whether the time is not up within d.
func (l *timeLimit) lasts(d time.Duration) bool {
	return l.deadline.IsZero() || time.Until(l.deadline) > d
}

// lifetime is the context of a job. Most jobs need none: a transfer has its own. The
// job's lock guards it.
type lifetime struct {
	daemon context.Context
	ended  bool
	ctx    context.Context // nil until it is asked for
	cancel context.CancelFunc
}

func (l *lifetime) get() context.Context {
	if l.ctx == nil {
		l.ctx, l.cancel = context.WithCancel(l.daemon)
		if l.ended {
			l.cancel()
		}
	}
	return l.ctx
}

func (l *lifetime) end() {
	l.ended = true
	if l.cancel != nil {
		l.cancel()
	}
}
