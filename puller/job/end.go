package job

import (
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/stream"
)

// Finish decides what the job ends as: the result, or err. Its readers are told once
// that is saved. Only the first call counts. While the daemon ends, a job does not
// fail: it goes on at the next start.
func (j *Job) Finish(result puller.Result, err error) {
	described := j.Snapshot()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.outcome != nil || err != nil && j.paused {
		return
	}
	j.view.Progress, j.view.Timings = described.Progress, described.Timings
	result, err = j.history.secrets.Result(result), j.history.secrets.Error(err)
	v := j.view
	v.Images = described.Images
	now := time.Now().UTC()
	v.FinishedAt = now
	v.State, v.Phase = puller.StateSucceeded, ""
	if err == nil || result.Interrupted {
		began := v.StartedAt
		if began.IsZero() { // the image was there: nothing had to be started
			began = v.CreatedAt
		}
		// By the monotonic clock, but after a restart: then the clock may have been
		// set back.
		result.DurationSeconds = max(0, now.Sub(began)).Seconds()
		v.Result = &result
	}
	if err != nil {
		v.Error = puller.NewJobError(err)
		v.State = puller.StateFailed
		if v.Error.Kind == puller.ErrCanceled {
			v.State = puller.StateCanceled
		}
	}
	state, end := puller.StateEvent(j.env.Events.Reserve(), &v), puller.ResultEvent(j.env.Events.Reserve(), &v)
	j.last = []stream.Frame{state.Frame(), end.Frame()}
	end.Result = nil // it is the record's Job
	j.history.events = append(j.history.events, state, end)
	j.outcome = &v
	j.limit.stop()
	j.context.end()
	j.changed()
}

// Ending reports whether the job has ended or is about to.
func (j *Job) Ending() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.outcome != nil
}

// Settle tells the job's readers how it has ended, which Finish has decided. It
// returns the job.
func (j *Job) Settle() puller.Job {
	j.mu.Lock()
	v, work := *j.outcome, j.work
	j.view = v
	j.history.topic.End(j.last...)
	j.last = nil
	close(j.settled)
	j.mu.Unlock()
	work.Settled()
	return v
}
