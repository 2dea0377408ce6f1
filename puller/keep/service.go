package keep

import (
	"context"

	"github.com/towline/towline/puller"
)

// A Service keeps images: sets and leases. The API uses it. Its methods may be called from
// anywhere.
type Service interface {
	// Sets returns all sets by name, without their images, and the files of sets that
	// can't be used.
	Sets() ([]Set, []SetFault)
	// Set returns a set with its images, or ErrNotFound.
	Set(name string) (Set, error)
	// PutSet makes or replaces a set, and has its images pulled. It is on disk by then. The
	// error is ErrInvalidRequest, naming the field, ErrForbidden, naming the rule, or
	// ErrConflict if the set comes from a file.
	PutSet(name string, r SetRequest) (Set, error)
	// DeleteSet forgets a set, and returns it as it stood. Its images stay. The error is
	// ErrNotFound or ErrConflict.
	DeleteSet(name string) (Set, error)
	// RefreshSet returns the prewarm job that refreshes a set. If one has not ended, it is
	// that one.
	RefreshSet(name string) (puller.Job, error)

	// Leases returns a page of leases, newest first, and the cursor of the next page, ""
	// on the last. The error is ErrInvalidRequest.
	Leases(f LeaseFilter) (page []Lease, next string, err error)
	// Lease returns a lease, or ErrNotFound: it may have expired.
	Lease(id string) (Lease, error)
	// AddLease leases images. It is on disk by then. An image that is being removed has gone
	// by then, and is none of the lease's ImageIDs. The error is ErrInvalidRequest, naming
	// the field, ErrForbidden, naming the rule, ErrOverloaded, or ErrEngineUnavailable where
	// such a removal does not end.
	AddLease(ctx context.Context, r LeaseRequest) (Lease, error)
	// RenewLease has a lease end after ttl from now. The error is ErrInvalidRequest or
	// ErrNotFound.
	RenewLease(id, ttl string) (Lease, error)
	// EndLease ends a lease, and returns it as it stood. The error is ErrNotFound.
	EndLease(id string) (Lease, error)
}
