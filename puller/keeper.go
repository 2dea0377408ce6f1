package puller

import (
	"context"
	"time"
)

// A Keeper keeps images: sets and leases. The API uses it. Its methods may be called from
// anywhere.
type Keeper interface {
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
	RefreshSet(name string) (Job, error)

	// Leases returns a page of leases, newest first, and the cursor of the next page, ""
	// on the last. The error is ErrInvalidRequest.
	Leases(f LeaseFilter) (page []Lease, next string, err error)
	// Lease returns a lease, or ErrNotFound: it may have expired.
	Lease(id string) (Lease, error)
	// AddLease leases images. It is on disk by then. The error is ErrInvalidRequest,
	// naming the field, ErrForbidden, naming the rule, or ErrOverloaded.
	AddLease(ctx context.Context, r LeaseRequest) (Lease, error)
	// RenewLease has a lease end after ttl from now. The error is ErrInvalidRequest or
	// ErrNotFound.
	RenewLease(id, ttl string) (Lease, error)
	// EndLease ends a lease, and returns it as it stood. The error is ErrNotFound.
	EndLease(id string) (Lease, error)
}

// ProtectionKind says what a Protection is.
type ProtectionKind string

// The kinds of protections.
const (
	ProtectionSet   ProtectionKind = "set"
	ProtectionLease ProtectionKind = "lease"
)

// Protection is a set or a lease that an image is in.
type Protection struct {
	Kind  ProtectionKind `json:"kind"`
	Name  string         `json:"name"`           // the set's name, or the lease's ID
	Until time.Time      `json:"until,omitzero"` // of a lease
	// Protects says that the image must not be collected: of every lease, and of sets that
	// protect.
	Protects bool `json:"protects"`
}

// A Protector says which sets and leases an image is in. It may be called from anywhere,
// and asks neither the engine nor a disk.
type Protector interface {
	// Protections returns them for an image with an ID and names: NAME:TAG and
	// NAME@DIGEST in full form. It is the present state: who removes an image asks again
	// right before.
	Protections(id string, names []string) []Protection
}
