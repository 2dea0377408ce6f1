package job

import (
	"context"
	"time"

	"github.com/towline/towline/puller"
)

// timeLimit ends a job when its time is up. The job's lock guards it.
type timeLimit struct {
	length   time.Duration // 0 is without limit
	timer    *time.Timer   // nil until start
	deadline time.Time     // zero for none
}

// start has the time run from now on, unless it does so already. work is left at its end.
func (l *timeLimit) start(image string, work Work) {
	if l.timer != nil || l.length == 0 {
		return
	}
	l.deadline = time.Now().Add(l.length)
	err := puller.Errorf(puller.ErrTimeout, "%s: timeout: not done within %s; set a longer timeout", image, l.length)
	l.timer = time.AfterFunc(l.length, func() { work.Leave(err) })
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
