package puller

import (
	"context"

	"github.com/towline/towline/stream"
)

// A Service takes jobs and tells of them. The API uses it, and so does what is
// layered in front of it. Its methods may be called from anywhere.
//
// Pull, Run and Prewarm accept a job and return it, queued or further. The job is
// on disk by then. Their error is ErrInvalidRequest, naming the field,
// ErrForbidden, naming the rule, ErrConflict, or ErrOverloaded.
type Service interface {
	Pull(PullRequest) (Job, error)
	Run(RunRequest) (Job, error)
	Prewarm(PrewarmRequest) (Job, error)

	// Plan says what a prewarm would pull, how much that is and what would fail.
	// It pulls nothing. What Prewarm refuses, Plan refuses too.
	Plan(ctx context.Context, r PrewarmRequest) (Plan, error)

	// CheckPrewarm returns a request as Prewarm would take it, with its defaults and with
	// references in full form, or the error with which Prewarm would refuse it. Nothing
	// is asked of registries.
	CheckPrewarm(r PrewarmRequest) (PrewarmRequest, error)

	// Job returns a job as it stands, or ErrNotFound.
	Job(id string) (Job, error)
	// Jobs returns a page of jobs, newest first, and the cursor of the next page,
	// "" on the last. Their Images are left out. The error is ErrInvalidRequest.
	Jobs(f Filter) (page []Job, next string, err error)
	// Wait returns the job when it has ended. If ctx ends first, Wait returns the
	// job as it stands and ctx's error. If the Service closes, the error is
	// ErrOverloaded. The job goes on.
	Wait(ctx context.Context, id string) (Job, error)
	// Cancel ends a job as canceled, a prewarm with all its children, and returns
	// it. The error is ErrNotFound, or ErrConflict if the job has ended.
	Cancel(id string) (Job, error)

	// Watch returns the present state of a job and the subscription that goes on
	// from there. With since, it is what came after that number. The error is
	// ErrNotFound.
	Watch(id string, since *uint64) ([]stream.Frame, *stream.Subscription, error)
	// WatchAll is Watch for all jobs of a kind and with an image; "" is any.
	WatchAll(kind, image string, since *uint64) ([]stream.Frame, *stream.LogSubscription, error)

	// Image returns the image that the engine has under a name, a digest or an ID,
	// as far as the rules, own being the caller's, let it be pulled. It asks no
	// registry. platform is os/arch[/variant], "" for any. The error is
	// ErrInvalidRequest, ErrForbidden or ErrNotFound.
	Image(ctx context.Context, name, platform string, own Rules) (Image, error)
	// Engine asks the engine what it is. Where it does not answer, only what is
	// known is filled in, and the error says why.
	Engine(ctx context.Context) (EngineInfo, error)
	// Queue says which transfers fetch, which wait and for what.
	Queue() QueueState
	// Ready returns why no job can be accepted now, or nil. It does not ask the
	// engine.
	Ready() error
}
