package job

import (
	"time"

	"github.com/sirupsen/logrus"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/redact"
	"github.com/towline/towline/stream/pullstream"
)

// Enter moves the job to a state and phase, and tells its readers. It does nothing
// once the job is about to end.
func (j *Job) Enter(state puller.State, phase puller.Phase, attempt int) {
	j.mu.Lock()
	v := &j.view
	if j.outcome != nil || v.State == state && v.Phase == phase && v.Attempt == attempt {
		j.mu.Unlock()
		return
	}
	begins := state == puller.StateActive && v.State != state
	if state == puller.StateActive {
		if v.StartedAt.IsZero() {
			v.StartedAt = time.Now().UTC()
		}
		j.limit.start(j)
	}
	v.State, v.Phase, v.Attempt = state, phase, attempt
	j.history.publish(func(seq uint64) puller.Event { return puller.StateEvent(seq, v) })
	j.changed()
	now := *v
	j.mu.Unlock()
	if begins { // the log is written without the lock
		logActive(j.env.Log, &now)
	}
}

func logActive(log logrus.FieldLogger, v *puller.Job) {
	fields := logrus.Fields{"job": v.ID, "kind": v.Kind, "state": v.State}
	if v.Image != "" { // a prewarm has no attempts of its own
		fields["image"], fields["attempt"] = v.Image, v.Attempt
	}
	log.WithFields(fields).Info("job active")
}

// StartTimer has the job's time run from now on. That of a prewarm's child does not
// run while the child is queued, or the end of a long list would never come.
func (j *Job) StartTimer() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.outcome == nil {
		j.limit.start(j)
	}
}

// Lasts reports whether the job's time is not up within d.
func (j *Job) Lasts(d time.Duration) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.limit.lasts(d)
}

// Notice tells the job's readers something. wait is how long the job waits for it,
// 0 where it waits for nothing.
func (j *Job) Notice(message string, wait time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.outcome == nil && j.history.notice(&j.view, message, wait) {
		j.changed()
	}
}

// Hide has secrets taken out of all that the job tells from now on.
func (j *Job) Hide(secrets *redact.Redactor) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if secrets != nil {
		j.history.secrets = secrets
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
	j.limit.stop()
	if j.history.notice(&j.view, "towline is shutting down; the job goes on when it is back", 0) {
		j.changed()
	}
	j.history.topic.End()
}
