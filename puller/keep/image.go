package keep

import (
	"slices"
	"time"

	"github.com/towline/towline/puller"
)

// Owner says who brought an image.
type Owner string

// The owners. OwnerTowline is of an image that a job pulled and that nobody had before.
// What is not certain is OwnerOther's.
const (
	OwnerTowline Owner = "towline"
	OwnerOther   Owner = "other"
)

// Reason is why an image can't be collected.
type Reason string

// The reasons.
const (
	ReasonContainer Reason = "container"  // a container has it, running or not
	ReasonSet       Reason = "set"        // it is in a set that protects
	ReasonLease     Reason = "lease"      // it is leased
	ReasonWanted    Reason = "job"        // an active job wants it
	ReasonProtected Reason = "protect"    // a pattern of keep.protect matches it
	ReasonYoung     Reason = "min_age"    // it came, or was used, less than keep.min_age ago
	ReasonOwner     Reason = "owner"      // Towline did not bring it, or one of its names
	ReasonParent    Reason = "parent"     // an image was built from it here
	ReasonName      Reason = "name"       // it has a name by which it can't be removed
	ReasonFailed    Reason = "failed"     // its last removal failed
	ReasonNotNeeded Reason = "not_needed" // there is room enough without its removal
	ReasonLimit     Reason = "limit"      // keep.max_per_cycle images were removed
	ReasonNoDisk    Reason = "no_disk"    // the engine's disk is not known, so neither is the need
)

// Reasons are all of them.
var Reasons = []Reason{
	ReasonContainer, ReasonSet, ReasonLease, ReasonWanted, ReasonProtected, ReasonYoung, ReasonOwner, ReasonParent, ReasonName, ReasonFailed,
	ReasonNotNeeded, ReasonLimit, ReasonNoDisk,
}

// Kept is one reason with what it comes from: the name of a container, of a set, …
type Kept struct {
	Reason Reason `json:"reason"`
	Detail string `json:"detail,omitempty"`
}

// Container is a container that has an image.
type Container struct {
	ID      string `json:"id"`
	Name    string `json:"name,omitempty"`
	Running bool   `json:"running"`
}

// Image is an image of the engine, in the form of GET /v1/images.
type Image struct {
	ID    string   `json:"id"`
	Names []string `json:"names"` // NAME:TAG and NAME@DIGEST in full form; none of a dangling image
	// Digest is its digest in a registry, "" where it has none or several.
	Digest string `json:"digest,omitempty"`
	Size   int64  `json:"size"` // bytes, as the engine counts
	// Unique is how many bytes would go with it; absent where the engine does not tell.
	Unique     *int64      `json:"unique_size,omitempty"`
	Owner      Owner       `json:"owner"`
	CreatedAt  time.Time   `json:"created_at,omitzero"` // by its builder
	ArrivedAt  time.Time   `json:"arrived_at"`          // or first seen here
	UsedAt     time.Time   `json:"used_at,omitzero"`    // zero where no use was seen
	Sets       []string    `json:"sets"`
	Leases     []string    `json:"leases"`
	Containers []Container `json:"containers"`
	// Collectable says that a collection may remove it. Kept says why not.
	Collectable bool   `json:"collectable"`
	Kept        []Kept `json:"kept,omitempty"`
}

// ImageFilter chooses images. Its zero value is all of them.
type ImageFilter struct {
	Owner       Owner
	Image       string // a name, a digest or an ID, or a pattern with * and ?
	Set         string
	Reason      Reason // among its Kept
	Collectable *bool
	// Limit is how many to return, 0 for 100, at most 1000.
	Limit int
	// Cursor is the next of the page before.
	Cursor string
}

// Check returns what is wrong with a filter, as ErrInvalidRequest, and fills in what is
// left out.
func (f *ImageFilter) Check() error {
	page := puller.Filter{Limit: f.Limit}
	if err := page.Check(); err != nil {
		return err
	}
	f.Limit = page.Limit
	switch f.Owner {
	case "", OwnerTowline, OwnerOther:
	default:
		return puller.Errorf(puller.ErrInvalidRequest, "owner: %q is not known; use %s or %s", puller.Clip(string(f.Owner)), OwnerTowline, OwnerOther)
	}
	if f.Reason != "" && !slices.Contains(Reasons, f.Reason) {
		return puller.Errorf(puller.ErrInvalidRequest, "reason: %q is not known; use one of %v", puller.Clip(string(f.Reason)), Reasons)
	}
	return nil
}
