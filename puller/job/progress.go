package job

import (
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/redact"
	"github.com/towline/towline/stream"
	"github.com/towline/towline/stream/pullstream"
)

// publish adds a numbered event to what the job's readers are told. The lock is held.
func (j *Job) publish(event func(seq uint64) puller.Event) {
	j.topic.Publish(func(seq uint64) stream.Frame {
		e := event(seq)
		j.events = append(j.events, e)
		return e.Frame()
	})
	j.changed()
}

// Enter moves the job to a state and phase, and tells its readers. It does nothing
// once the job is about to end.
func (j *Job) Enter(state puller.State, phase puller.Phase, attempt int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.enter(state, phase, attempt)
}

// EnterPhase is Enter for an active job in the attempt that it is in.
func (j *Job) EnterPhase(phase puller.Phase) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.enter(puller.StateActive, phase, j.view.Attempt)
}

func (j *Job) enter(state puller.State, phase puller.Phase, attempt int) {
	v := &j.view
	if j.outcome != nil || v.State == state && v.Phase == phase && v.Attempt == attempt {
		return
	}
	if state == puller.StateActive {
		if v.StartedAt.IsZero() {
			v.StartedAt = time.Now().UTC()
		}
		j.arm()
	}
	v.State, v.Phase, v.Attempt = state, phase, attempt
	j.publish(func(seq uint64) puller.Event { return puller.StateEvent(seq, v) })
}

// StartTimer has the job's time run from now on. That of a prewarm's child does not
// run while the child is queued, or the end of a long list would never come.
func (j *Job) StartTimer() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.arm()
}

func (j *Job) arm() {
	timeout := j.timeout
	if j.timer != nil || timeout == 0 || j.outcome != nil {
		return
	}
	limit := puller.Errorf(puller.ErrTimeout, "%s: not done within %s", j.view.Image, timeout)
	j.deadline = time.Now().Add(timeout)
	work := j.work
	j.timer = time.AfterFunc(timeout, func() { work.Leave(limit) })
}

// Lasts reports whether the job's time is not up within d.
func (j *Job) Lasts(d time.Duration) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.deadline.IsZero() || time.Until(j.deadline) > d
}

// These bound what one job's record keeps of an engine that says much, or of
// attempts that fail.
const (
	maxNotices = 100
	maxNotice  = 2 << 10 // bytes
)

// Notice tells the job's readers something. wait is how long the job waits for it,
// 0 where it waits for nothing.
func (j *Job) Notice(message string, wait time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.notice(message, wait)
}

func (j *Job) notice(message string, wait time.Duration) {
	most := maxNotices + len(j.view.Children)
	switch j.notices++; {
	case j.outcome != nil || j.notices > most:
		return
	case j.notices == most:
		message = "there are more notices than are kept; the rest is left out"
	}
	message = puller.ClipTo(j.secrets.Text(message), maxNotice)
	j.publish(func(seq uint64) puller.Event { return puller.NoticeEvent(seq, j.view.ID, message, wait) })
}

// Hide has secrets taken out of all that the job tells from now on.
func (j *Job) Hide(secrets *redact.Redactor) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if secrets != nil {
		j.secrets = secrets
	}
}

// SetProgress keeps what a transfer that the job is no longer part of has done.
func (j *Job) SetProgress(totals *pullstream.Totals, timings *puller.Timings) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.view.Progress, j.view.Timings = totals, timings
}

// Pause tells the job's readers that the job goes on after a restart, and ends their
// streams. The job does not fail any more.
func (j *Job) Pause() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.paused = true
	if j.outcome != nil {
		return // readers are about to be told how it ended
	}
	if j.timer != nil {
		j.timer.Stop()
	}
	j.notice("towline is shutting down; the job goes on when it is back", 0)
	j.topic.End()
}
