package keep

import (
	"time"

	"github.com/towline/towline/puller"
)

// LeaseRequest asks for images to be kept from collection for a while.
type LeaseRequest struct {
	// Images are references or image IDs. They need not be there yet.
	Images []string `json:"images"`
	TTL    string   `json:"ttl"`            // a Go duration, from MinLease to MaxLease
	Note   string   `json:"note,omitempty"` // for people

	origin `json:"-"`
}

// Lease is a lease as it stands, in the form of the API.
type Lease struct {
	ID     string   `json:"id"`     // a ULID
	Images []string `json:"images"` // in full form
	// ImageIDs are the images that had those names when they were leased, or that the job
	// has brought. They are kept also where a name moves on.
	ImageIDs   []string  `json:"image_ids,omitempty"`
	Note       string    `json:"note,omitempty"`
	Job        string    `json:"job,omitempty"` // that it was taken with
	TTLSeconds float64   `json:"ttl_seconds"`
	CreatedAt  time.Time `json:"created_at"`
	RenewedAt  time.Time `json:"renewed_at,omitzero"`
	// ExpiresAt moves on while Job has not ended.
	ExpiresAt time.Time `json:"expires_at"`
}

// LeaseFilter chooses leases. Its zero value is all of them.
type LeaseFilter struct {
	Image  string // in any form
	Job    string
	Limit  int    // how many to return, 0 for 100, at most 1000
	Cursor string // the Next of the page before
}

// Limits of leases.
const (
	MinLease       = time.Minute
	MaxLease       = 720 * time.Hour
	MaxLeases      = 10_000
	MaxLeaseImages = 100_000 // of all leases together; one has at most as many as a prewarm
	MaxLeaseNote   = 1 << 10 // bytes
)

// ParseLease reads how long a lease is. The error is ErrInvalidRequest and names the
// field.
func ParseLease(field, text string) (time.Duration, error) {
	if text == "" {
		return 0, puller.Errorf(puller.ErrInvalidRequest, "%s: missing; say how long, such as 2h: a lease without an end would keep images for ever", field)
	}
	ttl, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, puller.Errorf(puller.ErrInvalidRequest, "%s: %q is not a duration such as 90m or 2h", field, puller.Clip(text))
	case ttl < MinLease || ttl > MaxLease:
		return 0, puller.Errorf(puller.ErrInvalidRequest, "%s: %s is not between 1m and 720h", field, ttl)
	}
	return ttl, nil
}

// Check returns what is wrong with a filter, as ErrInvalidRequest, and fills in what is left
// out.
func (f *LeaseFilter) Check() error {
	page := puller.Filter{Image: f.Image, Limit: f.Limit}
	if err := page.Check(); err != nil {
		return err
	}
	f.Image, f.Limit = page.Image, page.Limit
	return nil
}
