package puller

import (
	"time"

	"github.com/towline/towline/stream"
	"github.com/towline/towline/stream/pullstream"
)

// State is where a job is. A job walks from queued to active to one of the
// three ends; it may skip active.
type State string

// The states of a job.
const (
	StateQueued    State = "queued"
	StateActive    State = "active"
	StateSucceeded State = "succeeded"
	StateFailed    State = "failed"
	StateCanceled  State = "canceled"
)

// Ended reports whether a job in this state stays in it.
func (s State) Ended() bool { return s == StateSucceeded || s == StateFailed || s == StateCanceled }

// Phase is what an active job is at.
type Phase string

// The phases of a pull, and of a run after those of its pull.
const (
	PhaseResolving Phase = "resolving" // until the engine says that it pulls
	PhasePulling   Phase = "pulling"
	PhaseVerifying Phase = "verifying" // the stream has ended; the proof is sought
	PhaseCreating  Phase = "creating"  // the container
	PhaseRunning   Phase = "running"
	PhaseRemoving  Phase = "removing" // it has exited, or was stopped
)

// JobKind says what a job does.
type JobKind string

// The kinds of jobs.
const (
	JobPull    JobKind = "pull"
	JobRun     JobKind = "run"
	JobPrewarm JobKind = "prewarm"
)

// Job is one caller's request as it stands, in the form of the API. Absent
// (zero) means unknown.
type Job struct {
	ID       string   `json:"id"`   // a ULID
	Kind     JobKind  `json:"kind"` // JobPull, JobRun or JobPrewarm
	State    State    `json:"state"`
	Phase    Phase    `json:"phase,omitempty"` // while active
	Image    string   `json:"image,omitempty"` // in full form
	Platform string   `json:"platform,omitempty"`
	Policy   Policy   `json:"policy,omitempty"`
	Priority Priority `json:"priority"`
	Attempt  int      `json:"attempt,omitempty"` // from 1

	// TraceParent is the job's place in a trace: of its own span, or, if Towline exports
	// no traces, what the call brought.
	TraceParent string `json:"traceparent,omitempty"`

	CreatedAt  time.Time `json:"created_at"`
	StartedAt  time.Time `json:"started_at,omitzero"`
	FinishedAt time.Time `json:"finished_at,omitzero"`

	// Parent is the prewarm that a job is part of. Children are a prewarm's
	// jobs in the order they were asked for, and Images what became of each.
	Parent   string       `json:"parent,omitempty"`
	Children []string     `json:"children,omitempty"`
	Images   []ImageState `json:"images,omitempty"`

	Progress *pullstream.Totals `json:"progress,omitempty"`
	Timings  *Timings           `json:"timings,omitempty"` // of the last attempt
	Result   *Result            `json:"result,omitempty"`  // of a job that succeeded, or of a run that was interrupted
	Error    *JobError          `json:"error,omitempty"`   // of one that failed or was canceled
}

// About is the job for readers of many jobs.
func (j Job) About() *stream.About {
	return &stream.About{Job: j.ID, Kind: string(j.Kind), Image: j.Image}
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
	SourcePulled   Source = "pulled"
	SourceUpToDate Source = "up_to_date" // the registry was asked, and nothing had changed
	SourcePresent  Source = "present"    // no registry was asked
)

// Result is what a job that succeeded brought. A prewarm has only the last two.
type Result struct {
	ImageID         string  `json:"image_id,omitempty"`
	Digest          string  `json:"digest,omitempty"` // sha256:…, in the registry
	Size            int64   `json:"size,omitempty"`   // bytes, as the engine counts
	Source          Source  `json:"source,omitempty"`
	Downloaded      int64   `json:"downloaded"` // bytes, by the transfer that the job shared
	DurationSeconds float64 `json:"duration_seconds"`

	// Accelerated is nil where no engine pulled, or there is no accelerator.
	Accelerated *Accelerated `json:"accelerated,omitempty"`

	Manifest string `json:"-"` // Image.Manifest

	// Of a run: how its program ended, whether the kernel ended it because memory ran
	// out, and whether the beginning of its output is no longer kept.
	ExitCode  *int `json:"exit_code,omitempty"`
	OOMKilled bool `json:"oom_killed,omitempty"`
	Truncated bool `json:"truncated,omitempty"`
	// Interrupted is only in the result of a run that failed as ErrEngineUnavailable:
	// its program had begun, and the engine went away under it, so that it is not
	// known how the program would have ended. There is no exit code then.
	Interrupted bool `json:"interrupted,omitempty"`
}

// JobError is why a job did not succeed.
type JobError struct {
	Kind              ErrorKind `json:"kind"`
	Message           string    `json:"message"`
	Retryable         bool      `json:"retryable"`
	RetryAfterSeconds float64   `json:"retry_after_seconds,omitempty"`
}

// maxMessage bounds what is kept of an engine's words for an error, in bytes.
const maxMessage = 4 << 10

// NewJobError returns an error as jobs tell it.
func NewJobError(err error) *JobError {
	kind := KindOf(err)
	return &JobError{
		Kind: kind, Message: ClipTo(err.Error(), maxMessage), Retryable: kind.Retryable(),
		RetryAfterSeconds: RetryAfterOf(err).Seconds(),
	}
}
