package fleet

import (
	"time"

	"github.com/towline/towline/puller"
)

// What the daemon knows of a request is embedded in it under these names.
type (
	origin     = puller.Origin
	listOrigin = puller.ListOrigin
)

// SetRequest says which images hosts are to have, which hosts, and how fast they get them.
// All but Images may be left out.
type SetRequest struct {
	Images puller.Images `json:"images"`
	// Schedule says when the tags are resolved again: five fields of cron ("0 5 * * *"), a
	// descriptor ("@daily") or an interval ("@every 30m"). Without one, that is done only
	// when the set is put. One controller does it for all hosts.
	Schedule string `json:"schedule,omitempty"`
	Timezone string `json:"timezone,omitempty"` // of Schedule and Window; "" for the controller's own
	Jitter   string `json:"jitter,omitempty"`   // a Go duration: the tags are resolved up to so much later
	// Window is when hosts may begin to pull, such as "22:00-06:00".
	Window string `json:"window,omitempty"`
	// Policy is PolicyNewer, the default, or PolicyMissing: a tag that is pinned stays so.
	Policy   puller.Policy   `json:"policy,omitempty"`
	Protect  *bool           `json:"protect,omitempty"`  // from collection, on each host; true if left out
	Priority puller.Priority `json:"priority,omitempty"` // PriorityLow is the default
	Platform string          `json:"platform,omitempty"` // of images that name none

	// Hosts are labels that a host must have to be a member; without any, all hosts are.
	Hosts   map[string]string `json:"hosts,omitempty"`
	Rollout RolloutRequest    `json:"rollout,omitzero"`

	listOrigin `json:"-"`
}

// RolloutRequest says how fast members get a new generation. Its zero value releases all at
// once and never stops.
type RolloutRequest struct {
	// Canary is how many members the first wave has, a number or a share such as "5%"; ""
	// is as Wave.
	Canary string `json:"canary,omitempty"`
	Wave   string `json:"wave,omitempty"` // the same of each further wave; "" is all
	// MaxFailures is how many members may fail or refuse, a number or a share, before the
	// rollout stops; "" for no limit. With "0" the first one stops it.
	MaxFailures string `json:"max_failures,omitempty"`
	// Pause is how long a rollout waits after a wave, a Go duration, or PauseManual: until
	// somebody resumes it.
	Pause string `json:"pause,omitempty"`
}

// PauseManual has a rollout wait after each wave until it is resumed.
const PauseManual = "manual"

// Image is an image of a set, pinned.
type Image struct {
	Image    string `json:"image"` // in full form, as it was asked for
	Platform string `json:"platform,omitempty"`
	// Digest is what the registry had under the name when it was asked: that of the index,
	// if it is one. All hosts get this one.
	Digest string `json:"digest"`
	// Manifests are the digests of the manifests of platforms that members have, by
	// platform, where Digest is that of an index.
	Manifests map[string]string `json:"manifests,omitempty"`
}

// State is how a set stands on a host.
type State string

// The states of a set on a host. The last three are ends, but a host tries again.
const (
	StateAway    State = "away"    // the host is not heard; said by the controller only
	StateWaiting State = "waiting" // for its wave, its window, or its engine
	StatePulling State = "pulling"
	StateProven  State = "proven"  // a job has proven each image of the generation
	StateRefused State = "refused" // by the host's rules or version
	StateFailed  State = "failed"
)

// States are all states, in the order in which they are shown.
var States = []State{StateProven, StatePulling, StateWaiting, StateRefused, StateFailed, StateAway}

// Ended reports whether a host has done for a generation what it can for now.
func (s State) Ended() bool { return s == StateProven || s == StateRefused || s == StateFailed }

// Set is a set of a fleet as it stands, in the form of the API. Absent (zero) means unknown.
type Set struct {
	Name       string `json:"name"`
	Generation uint64 `json:"generation"`
	// What was asked for, with the defaults.
	Schedule      string            `json:"schedule,omitempty"`
	Timezone      string            `json:"timezone,omitempty"`
	JitterSeconds float64           `json:"jitter_seconds,omitempty"`
	Window        string            `json:"window,omitempty"`
	Policy        puller.Policy     `json:"policy"`
	Protect       bool              `json:"protect"`
	Priority      puller.Priority   `json:"priority"`
	Hosts         map[string]string `json:"hosts,omitempty"`

	ChangedAt  time.Time `json:"changed_at"`           // when a call changed it last
	ResolvedAt time.Time `json:"resolved_at"`          // when the generation was pinned
	NextRun    time.Time `json:"next_run,omitzero"`    // when its tags are resolved again by themselves
	Caller     string    `json:"caller,omitempty"`     // who changed it last
	Controller string    `json:"controller,omitempty"` // the host that pinned the generation
	Error      string    `json:"error,omitempty"`      // why its tags could not be resolved again

	Images  []Image          `json:"images"`
	Skipped []puller.Skipped `json:"skipped,omitempty"`
	Rollout Rollout          `json:"rollout"`
	// Counts says how many members are in each state of the present generation.
	Counts map[State]int `json:"counts"`
	// Members are by host. A list of sets leaves them out.
	Members []MemberState `json:"members,omitempty"`
}

// MemberState is how a set stands on one of its members.
type MemberState struct {
	Host  string `json:"host"`
	State State  `json:"state"` // of the present generation
	// Last is, of a member that is away, what it said last of the present generation.
	Last State `json:"last,omitempty"`
	// Generation is the one that the host is at, 0 for none: an older one while it waits.
	Generation uint64 `json:"generation,omitempty"`
	Released   bool   `json:"released"`         // the rollout lets it have the present generation
	Digest     string `json:"digest,omitempty"` // that it has proven, of a set with one image
	// Images are those that are not proven, of a set with several; at most MaxReported.
	Images []ImageState `json:"images,omitempty"`
	// Error says why the host has not proven it, for people.
	Error string           `json:"error,omitempty"`
	Kind  puller.ErrorKind `json:"kind,omitempty"` // of that error
	At    time.Time        `json:"at,omitzero"`    // when the controller heard it
}

// ImageState is an image of a set on a host that is not proven there.
type ImageState struct {
	Image  string           `json:"image"`
	State  State            `json:"state"`
	Digest string           `json:"digest,omitempty"` // the one that is there instead
	Error  string           `json:"error,omitempty"`
	Kind   puller.ErrorKind `json:"kind,omitempty"`
}
