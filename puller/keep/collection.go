package keep

import (
	"context"

	"github.com/towline/towline/puller"
)

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
	Before *puller.Disk `json:"disk_before,omitempty"`
	After  *puller.Disk `json:"disk_after,omitempty"`
	// Blocked says what stands in the way where less could be freed than is needed.
	Blocked string `json:"blocked,omitempty"`
}

// A Collector knows an engine's images and collects those that are not needed. Its
// methods may be called from anywhere.
type Collector interface {
	// Images returns a page of the engine's images, by ID, and the cursor of the next
	// page, "" on the last. The error is ErrInvalidRequest, or the engine's.
	Images(ctx context.Context, f ImageFilter) (page []Image, next string, err error)
	// Collect removes images until keep.low is reached, or says what it would do. Of two
	// calls the later one waits. The error is ErrConflict where collection is off, and
	// not for a plan, or the engine's.
	Collect(ctx context.Context, dryRun bool) (Collection, error)
}
