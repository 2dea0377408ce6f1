package puller

import (
	"context"
	"errors"
	"time"

	"github.com/towline/towline/stream"
)

// State is where a job is. A job walks from queued to active to one of the
// three ends; it may skip active.
type State string

// The states of a job.
const (
	Queued        State = "queued"
	Active        State = "active"
	Succeeded     State = "succeeded"
	Failed        State = "failed"
	StateCanceled State = "canceled"
)

// Ended reports whether a job in this state stays in it.
func (s State) Ended() bool { return s == Succeeded || s == Failed || s == StateCanceled }

// Phase is what an active job is at.
type Phase string

// The phases of a pull.
const (
	Resolving Phase = "resolving" // until the engine says that it pulls
	Pulling   Phase = "pulling"
	Verifying Phase = "verifying" // the stream has ended; the proof is sought
)

// Job is one caller's request as it stands, in the form of the API. Absent
// (zero) means unknown.
type Job struct {
	ID       string   `json:"id"`   // a ULID
	Kind     string   `json:"kind"` // "pull"
	State    State    `json:"state"`
	Phase    Phase    `json:"phase,omitempty"` // while active
	Image    string   `json:"image"`           // in full form
	Platform string   `json:"platform,omitempty"`
	Policy   Policy   `json:"policy"`
	Priority Priority `json:"priority"`
	Attempt  int      `json:"attempt,omitempty"` // from 1

	CreatedAt  time.Time `json:"created_at"`
	StartedAt  time.Time `json:"started_at,omitzero"`
	FinishedAt time.Time `json:"finished_at,omitzero"`

	// Parent is the prewarm that a job is part of. Children are a prewarm's
	// jobs in the order they were asked for, and Images what became of each.
	Parent   string       `json:"parent,omitempty"`
	Children []string     `json:"children,omitempty"`
	Images   []ImageState `json:"images,omitempty"`

	Progress *stream.Totals `json:"progress,omitempty"`
	Timings  *Timings       `json:"timings,omitempty"` // of the last attempt
	Result   *Result        `json:"result,omitempty"`  // of a job that succeeded
	Error    *JobError      `json:"error,omitempty"`   // of one that failed or was canceled
}

// ImageState is what became of one image of a prewarm, or of a service that
// was skipped.
type ImageState struct {
	Job     string    `json:"job,omitempty"`
	Image   string    `json:"image,omitempty"`
	Service string    `json:"service,omitempty"` // of a Compose file, where it was skipped
	State   State     `json:"state"`             // a job's, or "skipped"
	Source  Source    `json:"source,omitempty"`
	Error   *JobError `json:"error,omitempty"`
	Reason  string    `json:"reason,omitempty"` // why it was skipped
}

// Source is where the image of a job that succeeded came from.
type Source string

// The sources. The engine's own words for them are unreliable while it pulls
// one image twice, so they follow from the image IDs before and after.
const (
	Pulled   Source = "pulled"
	UpToDate Source = "up_to_date" // the registry was asked, and nothing had changed
	Present  Source = "present"    // no registry was asked
)

// Result is what a job that succeeded brought.
type Result struct {
	ImageID         string  `json:"image_id"`
	Digest          string  `json:"digest,omitempty"` // sha256:…, in the registry
	Size            int64   `json:"size"`             // bytes, as the engine counts
	Source          Source  `json:"source"`
	Downloaded      int64   `json:"downloaded"` // bytes, by the transfer that the job shared
	DurationSeconds float64 `json:"duration_seconds"`
}

// JobError is why a job did not succeed.
type JobError struct {
	Kind              Kind    `json:"kind"`
	Message           string  `json:"message"`
	Retryable         bool    `json:"retryable"`
	RetryAfterSeconds float64 `json:"retry_after_seconds,omitempty"`
}

// job is a Job with what drives it. Its fields from view on are guarded by
// Puller.mu.
type job struct {
	request PullRequest
	key     transferKey
	topic   *stream.Topic
	ctx     context.Context // ends with the job, its cause an *Error
	end     context.CancelFunc
	done    chan struct{} // closed when the job has ended

	view     Job
	notices  int
	failures int       // attempts that failed while it was part of their transfer
	transfer *transfer // while it is part of one
}

// snapshot returns the job as it stands.
func (j *job) snapshot() Job {
	v := j.view
	if j.transfer != nil {
		v.Progress, v.Timings = j.transfer.totals.Load(), j.transfer.timings.Load()
	}
	return v
}

// enter moves the job to a state and phase, and tells its readers.
func (j *job) enter(state State, phase Phase, attempt int) {
	v := &j.view
	if v.State == state && v.Phase == phase && v.Attempt == attempt {
		return
	}
	if v.StartedAt.IsZero() && state == Active {
		v.StartedAt = time.Now().UTC()
	}
	v.State, v.Phase, v.Attempt = state, phase, attempt
	j.topic.Publish(func(seq uint64) stream.Frame { return stateFrame(seq, v) })
}

// lasts reports whether the job's time is not up within d.
func (j *job) lasts(d time.Duration) bool {
	deadline, ok := j.ctx.Deadline()
	return !ok || time.Until(deadline) > d
}

// maxNotices bounds what one job's record keeps of an engine that has much to
// say, or of attempts that fail.
const (
	maxNotices = 100
	maxNotice  = 2 << 10 // bytes
)

func (j *job) notice(message string, wait time.Duration) {
	switch j.notices++; {
	case j.notices > maxNotices:
		return
	case j.notices == maxNotices:
		message = "there is more to say than is kept; what follows is left out"
	}
	message = clipTo(message, maxNotice)
	j.topic.Publish(func(seq uint64) stream.Frame { return noticeFrame(seq, j.view.ID, message, wait) })
}

// finish ends the job, unless it has ended: with the result, or with err.
func (j *job) finish(result Result, err error) {
	v := &j.view
	if v.State.Ended() {
		return
	}
	last := j.snapshot()
	v.Progress, v.Timings = last.Progress, last.Timings
	j.transfer = nil
	now := time.Now().UTC()
	v.FinishedAt = now
	state := Succeeded
	if err == nil {
		began := v.StartedAt
		if began.IsZero() { // the image was there: nothing had to be started
			began = v.CreatedAt
		}
		result.DurationSeconds = now.Sub(began).Seconds()
		v.Result = &result
	} else {
		v.Error = jobError(err)
		state = Failed
		if v.Error.Kind == Canceled {
			state = StateCanceled
		}
	}
	j.enter(state, "", v.Attempt)
	last = *v
	j.topic.End(func(seq uint64) stream.Frame { return resultFrame(seq, &last) })
	close(j.done)
	j.end()
	j.request.Credentials = Credentials{} // nobody needs them any more
}

// maxMessage bounds what is kept of an engine's words for an error, in bytes.
const maxMessage = 4 << 10

func jobError(err error) *JobError {
	e := &JobError{Kind: KindOf(err), Message: err.Error()}
	e.Message = clipTo(e.Message, maxMessage)
	e.Retryable = e.Kind.Retryable()
	var known *Error
	if errors.As(err, &known) {
		e.RetryAfterSeconds = known.RetryAfter.Seconds()
	}
	return e
}
