package keep

import (
	"strings"
	"time"

	"github.com/towline/towline/puller"
)

// What the daemon knows of a request is embedded in it under these names.
type (
	origin     = puller.Origin
	listOrigin = puller.ListOrigin
)

// SetRequest says which images a host is to have, and when Towline looks whether they are
// still the current ones. All but Images may be left out.
type SetRequest struct {
	Images puller.Images `json:"images"`
	// Schedule says when the set is refreshed: five fields of cron ("0 5 * * *"), a
	// descriptor ("@daily") or an interval ("@every 30m"). Without one, only images that
	// are missing are pulled.
	Schedule string `json:"schedule,omitempty"`
	Timezone string `json:"timezone,omitempty"` // such as Europe/Berlin; "" for the daemon's own
	// Jitter is a Go duration. Each host refreshes later than its schedule says, always by
	// the same part of Jitter.
	Jitter string `json:"jitter,omitempty"`
	// Window is when refreshes that nobody asks for may begin, such as "22:00-06:00".
	Window   string          `json:"window,omitempty"`
	Policy   puller.Policy   `json:"policy,omitempty"`   // PolicyNewer, the default, or PolicyMissing
	Protect  *bool           `json:"protect,omitempty"`  // from collection; true if left out
	Priority puller.Priority `json:"priority,omitempty"` // PriorityLow is the default
	Platform string          `json:"platform,omitempty"` // of images that name none

	listOrigin `json:"-"`
}

// SetSource says where a set comes from.
type SetSource string

// The sources of sets.
const (
	SetFromAPI   SetSource = "api"
	SetFromFile  SetSource = "file"    // in keep.sets_dir; calls can't change it
	SetFromUsage SetSource = "learned" // from the containers of the engine
	SetFromFleet SetSource = "fleet"   // this host is to have it; calls of its own can't change it
)

// FleetPrefix is what the names of sets of SetFromFleet begin with, and no others.
const FleetPrefix = "fleet."

// LearnedSet is the name of the set of what containers were started from.
const LearnedSet = "learned"

// Set is a set as it stands, in the form of the API. Absent (zero) means unknown.
type Set struct {
	Name   string    `json:"name"`
	Source SetSource `json:"source"`
	File   string    `json:"file,omitempty"` // of SetFromFile, its path
	// What was asked for, with the defaults.
	Schedule      string          `json:"schedule,omitempty"`
	Timezone      string          `json:"timezone,omitempty"`
	JitterSeconds float64         `json:"jitter_seconds,omitempty"`
	Window        string          `json:"window,omitempty"`
	Policy        puller.Policy   `json:"policy"`
	Protect       bool            `json:"protect"`
	Priority      puller.Priority `json:"priority"`

	ChangedAt time.Time `json:"changed_at"`
	LastRun   time.Time `json:"last_run,omitzero"` // when the last refresh began
	NextRun   time.Time `json:"next_run,omitzero"` // when the next one begins by itself
	Job       string    `json:"job,omitempty"`     // the last refresh, or the present one
	Refreshes bool      `json:"refreshing"`        // Job has not ended
	Error     string    `json:"error,omitempty"`   // why the last refresh could not begin

	// Counts says how many images are in each state.
	Counts map[SetState]int `json:"counts"`
	// Images are in the order they were asked for. A list of sets leaves them out.
	Images  []SetImage       `json:"images,omitempty"`
	Skipped []puller.Skipped `json:"skipped,omitempty"`
}

// SetState is how an image of a set stands at the engine.
type SetState string

// The states of an image of a set.
const (
	SetPresent SetState = "present"
	SetStale   SetState = "stale" // there, but not as the last refresh brought it or was to bring it
	SetMissing SetState = "missing"
	SetPulling SetState = "pulling" // a refresh is at it
	SetFailed  SetState = "failed"  // missing, and the last try to pull it has failed
)

// SetStates are all states, in the order in which they are shown.
var SetStates = []SetState{SetPresent, SetStale, SetMissing, SetPulling, SetFailed}

// SetImage is an image of a set.
type SetImage struct {
	Image     string    `json:"image"` // in full form
	Platform  string    `json:"platform,omitempty"`
	State     SetState  `json:"state"`
	Reason    string    `json:"reason,omitempty"` // for people
	Digest    string    `json:"digest,omitempty"` // in the registry, of what is there
	CheckedAt time.Time `json:"checked_at,omitzero"`
	NextRun   time.Time `json:"next_run,omitzero"`
	Job       string    `json:"job,omitempty"` // the last pull of it
}

// SetFault is a file of keep.sets_dir that can't be used.
type SetFault struct {
	File  string `json:"file"`
	Error string `json:"error"`
}

// Limits of sets.
const (
	MaxSets      = 500
	MaxSetImages = 5000 // of all sets together; one has at most as many as a prewarm
	MaxSetName   = 63   // bytes
)

// CheckSetName returns what is wrong with the name of a set, as ErrInvalidRequest.
func CheckSetName(name string) error {
	switch {
	case name == "":
		return puller.Errorf(puller.ErrInvalidRequest, "name: missing; name the set")
	case len(name) > MaxSetName:
		return puller.Errorf(puller.ErrInvalidRequest, "name: %q has %d bytes; the name of a set has at most %d", puller.Clip(name), len(name), MaxSetName)
	case name == LearnedSet:
		return puller.Errorf(puller.ErrInvalidRequest, "name: %s is the name of the set that Towline makes itself (keep.learn); take another one", name)
	}
	for i := range len(name) {
		c := name[i]
		alphanumeric := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !alphanumeric && (i == 0 || c != '.' && c != '_' && c != '-') {
			return puller.Errorf(puller.ErrInvalidRequest, "name: %q is not the name of a set; it begins with a letter or digit and goes on with those, dots, hyphens and underscores, all in lower case", puller.Clip(name))
		}
	}
	return nil
}

// CheckNotOfFleet returns why a call or a file can't have a name that is for the fleet's sets.
func CheckNotOfFleet(name string) error {
	if strings.HasPrefix(name, FleetPrefix) {
		return puller.Errorf(puller.ErrInvalidRequest, "name: %q begins with %s, which is for the sets of a fleet; take another one", puller.Clip(name), FleetPrefix)
	}
	return nil
}
