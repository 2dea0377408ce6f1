package store

import (
	"slices"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/stream"
)

// A Store keeps jobs over a restart. Save and Prune are called by one
// goroutine at a time; the other methods may be called from anywhere, also
// meanwhile, until Close.
type Store interface {
	// Load returns what a start goes on from: the last seq that Save was given,
	// 0 for none, or a number above it where it can't be read any more; and the
	// records that have not ended, oldest first.
	Load() (seq uint64, unended []Record, err error)

	// Instance returns the random ID of the store, which tells this daemon from
	// others. The first Save that succeeds keeps it. A store that is begun anew
	// has another one.
	Instance() string

	// Private returns the IDs of the images that KeepPrivate was called with: at
	// most MaxPrivate. A store that has had more, or that was begun anew after
	// damage, does not know all of them, and says so by whole being false.
	Private() (images []string, whole bool, err error)

	// KeepPrivate keeps the ID of an image that a caller's credentials have brought.
	// It is on disk when it returns nil. It may be called from anywhere.
	KeepPrivate(image string) error

	// Save keeps the records, each in the place of the one with its ID, and
	// seq. All of it is on disk when Save returns nil, and none of it after an
	// error. Without records it also finds out whether there is room for new
	// ones. Once the store is found to be damaged, every Save fails until Close.
	// The next start sets a damaged store aside and begins a new one.
	Save(seq uint64, records []Record) error

	// Record returns the record of a job, or ErrNotFound.
	Record(id string) (Record, error)

	// Keyed returns the record that holds an idempotency key, or ErrNotFound.
	Keyed(key string) (Record, error)

	// Ended returns the jobs that have ended and that the filter chooses,
	// newest first: at most f.Limit of them, and only those with IDs below
	// f.Cursor, if there is one. Its cost follows the limit, not how many jobs
	// there are. The filter's fields are valid.
	Ended(f puller.Filter) ([]puller.Job, error)

	// Last returns the n records that ended last, in the order in which they ended:
	// fewer if there are no more, or if they have more than size bytes together in
	// the form in which the store keeps them, but one at least.
	Last(n int, size int64) ([]Record, error)

	// Prune drops the jobs that ended before a time, and then those that ended
	// first until at most keep of those that have ended are left, and their
	// records have at most size bytes in the form in which the store keeps them. It
	// returns how many it dropped, and gives disk space back where there is much to
	// give.
	Prune(before time.Time, keep int, size int64) (int, error)

	// Close ends the use of the store. It does not save anything.
	Close() error
}

// MaxPrivate is how many IDs of images a Store keeps for KeepPrivate.
const MaxPrivate = 50_000

// Record is a job as it is kept: what its readers were told, and what a
// restart needs to go on with it. It holds no credentials.
type Record struct {
	Job puller.Job `json:"job"`
	// Events are the numbered ones, oldest first. The Result of a result event
	// is left out: it is Job.
	Events []puller.Event `json:"events,omitempty"`

	// What was asked for: one of these.
	Pull    *puller.PullRequest `json:"pull,omitempty"`
	Prewarm *Prewarm            `json:"prewarm,omitempty"`
	Run     *Run                `json:"run,omitempty"` // beside Pull, which is for its image

	// Caller is the name of the caller, "" where it is not known.
	Caller string `json:"caller,omitempty"`
	// Private says that the request came with credentials, which are not kept.
	Private bool `json:"private,omitempty"`
	// Key is the request's idempotency key, as keyOf makes it, and Fingerprint tells the request
	// from another one with the same key.
	Key         string `json:"key,omitempty"`
	Fingerprint []byte `json:"fingerprint,omitempty"`
}

// Prewarm is what a restart needs of a prewarm beside its children.
type Prewarm struct {
	FailFast bool             `json:"fail_fast,omitempty"`
	Skipped  []puller.Skipped `json:"skipped,omitempty"`
	// Ended is what became of the children that have ended, while the prewarm
	// has not: a long one outlives their records.
	Ended []puller.ImageState `json:"ended,omitempty"`
}

// Run is what a restart needs of a run.
type Run struct {
	Request puller.RunRequest `json:"request"`
	// Name is the name of the container, which is kept before it is created, and
	// Container its ID, as soon as that is known. Name is not known to callers
	// nor images. A run that an older Towline accepted has none.
	Name      string `json:"name,omitempty"`
	Container string `json:"container,omitempty"`
	// Image is what was proven to be there, once it was, and Exit how the
	// container ended, once it had. Ending is why it is to end before its
	// program does, once it is.
	Image  *puller.Result   `json:"image,omitempty"`
	Exit   *engines.Exit    `json:"exit,omitempty"`
	Ending *puller.JobError `json:"ending,omitempty"`
}

// Owns reports whether a container was created for the run of a job. Its labels
// say so too, but a container may have them from its image, such as one that was
// committed from a run's container. They are enough only for a run of an older Towline
// that has not ended: nothing else is known of its container.
func (r *Run) Owns(c engines.ContainerState, job string, ended bool) bool {
	if r.Name == "" && r.Container == "" {
		return !ended && c.Labels[engines.LabelJob] == job && c.Labels[engines.LabelInstance] != ""
	}
	return r.Container != "" && c.ID == r.Container || r.Name != "" && slices.Contains(c.Names, r.Name)
}

// Frames returns what the job's readers were told.
func (r *Record) Frames() []stream.Frame {
	frames := make([]stream.Frame, len(r.Events))
	for i, e := range r.Events {
		if e.Type == "result" {
			e.Result = &r.Job
		}
		frames[i] = e.Frame()
	}
	return frames
}
