package keep

import "time"

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
