package puller

import (
	"context"
	"time"
)

// ImageOwner says who brought an image.
type ImageOwner string

// The owners. OwnerTowline is of an image that a job pulled and that nobody had before.
// What is not certain is OwnerOther's.
const (
	OwnerTowline ImageOwner = "towline"
	OwnerOther   ImageOwner = "other"
)

// KeptReason is why an image can't be collected.
type KeptReason string

// The reasons.
const (
	KeptContainer KeptReason = "container"  // a container has it, running or not
	KeptSet       KeptReason = "set"        // it is in a set that protects
	KeptLease     KeptReason = "lease"      // it is leased
	KeptWanted    KeptReason = "job"        // an active job wants it
	KeptProtected KeptReason = "protect"    // a pattern of keep.protect matches it
	KeptYoung     KeptReason = "min_age"    // it came, or was used, less than keep.min_age ago
	KeptOwner     KeptReason = "owner"      // Towline did not bring it, or one of its names
	KeptParent    KeptReason = "parent"     // an image was built from it here
	KeptName      KeptReason = "name"       // it has a name by which it can't be removed
	KeptFailed    KeptReason = "failed"     // its last removal failed
	KeptNotNeeded KeptReason = "not_needed" // there is room enough without its removal
	KeptLimit     KeptReason = "limit"      // keep.max_per_cycle images were removed
	KeptNoDisk    KeptReason = "no_disk"    // the engine's disk is not known, so neither is the need
)

// Kept is one reason with what it comes from: the name of a container, of a set, …
type Kept struct {
	Reason KeptReason `json:"reason"`
	Detail string     `json:"detail,omitempty"`
}

// ImageContainer is a container that has an image.
type ImageContainer struct {
	ID      string `json:"id"`
	Name    string `json:"name,omitempty"`
	Running bool   `json:"running"`
}

// KeptImage is an image of the engine, in the form of GET /v1/images.
type KeptImage struct {
	ID    string   `json:"id"`
	Names []string `json:"names"` // NAME:TAG and NAME@DIGEST in full form; none of a dangling image
	// Digest is its digest in a registry, "" where it has none or several.
	Digest string `json:"digest,omitempty"`
	Size   int64  `json:"size"` // bytes, as the engine counts
	// Unique is how many bytes would go with it; absent where the engine does not tell.
	Unique     *int64           `json:"unique_size,omitempty"`
	Owner      ImageOwner       `json:"owner"`
	CreatedAt  time.Time        `json:"created_at,omitzero"` // by its builder
	ArrivedAt  time.Time        `json:"arrived_at"`          // or first seen here
	UsedAt     time.Time        `json:"used_at,omitzero"`    // zero where no use was seen
	Sets       []string         `json:"sets"`
	Leases     []string         `json:"leases"`
	Containers []ImageContainer `json:"containers"`
	// Collectable says that a collection may remove it. Kept says why not.
	Collectable bool   `json:"collectable"`
	Kept        []Kept `json:"kept,omitempty"`
}

// ImageFilter chooses images. Its zero value is all of them.
type ImageFilter struct {
	Owner       ImageOwner
	Image       string // a name, a digest or an ID, or a pattern with * and ?
	Set         string
	Reason      KeptReason // among its Kept
	Collectable *bool
	// Limit is how many to return, 0 for 100, at most 1000.
	Limit int
	// Cursor is the next of the page before.
	Cursor string
}

// Check returns what is wrong with a filter, as ErrInvalidRequest, and fills in what is
// left out.
func (f *ImageFilter) Check() error {
	switch {
	case f.Limit < 0 || f.Limit > maxLimit:
		return Errorf(ErrInvalidRequest, "limit: %d is not between 1 and %d", f.Limit, maxLimit)
	case f.Limit == 0:
		f.Limit = defaultLimit
	}
	switch f.Owner {
	case "", OwnerTowline, OwnerOther:
		return nil
	}
	return Errorf(ErrInvalidRequest, "owner: %q is not known; use %s or %s", Clip(string(f.Owner)), OwnerTowline, OwnerOther)
}

// CollectedImage is an image that a collection removed, or would remove.
type CollectedImage struct {
	ID    string   `json:"id"`
	Names []string `json:"names"` // those that it had
	// Freed is in bytes: what the disk gained, or what the engine's list promises where
	// the disk is not known, or for a plan. Absent where that is not known either.
	Freed *int64 `json:"freed,omitempty"`
	// Why is what it was removed for: high, unused, or admission.
	Why string `json:"why"`
}

// KeptBack is an image that a collection left.
type KeptBack struct {
	ID    string   `json:"id"`
	Names []string `json:"names"`
	Size  int64    `json:"size"`
	Kept  []Kept   `json:"kept"`
}

// Collection is what a collection did, or would do.
type Collection struct {
	DryRun  bool             `json:"dry_run,omitempty"`
	Removed []CollectedImage `json:"removed"` // in order
	Stayed  []KeptBack       `json:"stayed"`
	// Before and After are the engine's disk; absent where it is not known. After is
	// an estimate in a plan.
	Before *Disk `json:"disk_before,omitempty"`
	After  *Disk `json:"disk_after,omitempty"`
	// Blocked says what stands in the way where less could be freed than is needed.
	Blocked string `json:"blocked,omitempty"`
}

// An ImageKeeper knows an engine's images and collects those that are not needed. Its
// methods may be called from anywhere.
type ImageKeeper interface {
	// Images returns a page of the engine's images, by ID, and the cursor of the next
	// page, "" on the last. The error is ErrInvalidRequest, or the engine's.
	Images(ctx context.Context, f ImageFilter) (page []KeptImage, next string, err error)
	// Collect removes images until keep.low is reached, or says what it would do. Of two
	// calls the later one waits. The error is ErrConflict where collection is off, and
	// not for a plan, or the engine's.
	Collect(ctx context.Context, dryRun bool) (Collection, error)
}
