package puller

import (
	"time"

	"github.com/distribution/reference"

	"github.com/towline/towline/puller/names"
)

// Policy says when an image is pulled.
type Policy string

// The pull policies.
const (
	PolicyAlways  Policy = "always"  // ask the registry in any case
	PolicyMissing Policy = "missing" // only when the engine does not have it
	PolicyNever   Policy = "never"   // present, or ErrNotFound
	PolicyNewer   Policy = "newer"   // only when the registry has another one under the name
)

// ParsePolicy checks a policy's name.
func ParsePolicy(name string) (Policy, error) {
	switch p := Policy(name); p {
	case PolicyAlways, PolicyMissing, PolicyNever, PolicyNewer:
		return p, nil
	}
	return "", Errorf(ErrInvalidRequest, "policy: %q is not known; use always, missing, never or newer", Clip(name))
}

// AsksRegistry reports whether a job of this policy asks the registry though the image
// is present.
func (p Policy) AsksRegistry() bool { return p == PolicyAlways || p == PolicyNewer }

// Priority orders one caller's jobs in the queue, and decides what a slot counts
// for its caller. Among jobs of one priority the first come is the first served.
type Priority string

// The priorities.
const (
	PriorityHigh   Priority = "high"
	PriorityNormal Priority = "normal"
	PriorityLow    Priority = "low"
)

// Duration is a timeout that is a Go duration string ("90s") on the wire.
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		// A JSON decoder does not say which field it was at.
		return Errorf(ErrInvalidRequest, "timeout: %q is not a duration such as 90s or 30m", Clip(string(text)))
	}
	*d = Duration(v)
	return nil
}

// PullRequest asks for one image. All but Image may be left out.
type PullRequest struct {
	Image    string   `json:"image"`
	Platform string   `json:"platform,omitempty"` // os/arch[/variant], or as ParsePlatform takes it
	Policy   Policy   `json:"policy,omitempty"`
	Priority Priority `json:"priority,omitempty"`
	Timeout  Duration `json:"timeout,omitempty"` // for the whole job, from its submission
	Retries  *int     `json:"retries,omitempty"` // attempts after the first
	// Strict has a request of policy Newer fail where the registry does not answer.
	// Without it what is present is kept, and a notice says so.
	Strict bool `json:"strict,omitempty"`
	// Accelerate is AccelerateAuto unless it is AccelerateOff. A transfer that several
	// jobs share is not accelerated if one of them says off.
	Accelerate Accelerate `json:"accelerate,omitempty"`
	// Lease keeps the image from collection for so long, a Go duration: from the job's
	// submission, and anew from its success. ParseLease reads it. A Service without
	// leases does not know it.
	Lease string `json:"lease,omitempty"`

	Credentials Credentials `json:"-"`
	// IdempotencyKey makes a request that is sent again give the job that it
	// gave before to the same caller. For a key that came with another request
	// of theirs the error is ErrConflict.
	IdempotencyKey string `json:"-"`
	// TraceParent is the W3C traceparent of the call, "" for none. Clients send it as a
	// header.
	TraceParent string `json:"-"`

	origin `json:"-"`
}

// MaxReference is how many bytes a reference may have. A name has at most 255 and a
// digest 71.
const MaxReference = 1 << 10

// ParseReference returns the full form of an image reference:
// "alpine" becomes "docker.io/library/alpine:latest". A digest stays, with the
// tag before it if there is one. The error is ErrInvalidRequest and names the
// image field.
func ParseReference(image string) (reference.Named, error) {
	if image == "" {
		return nil, Errorf(ErrInvalidRequest, "image: missing; name one, such as alpine:3.20")
	}
	if len(image) > MaxReference {
		return nil, Errorf(ErrInvalidRequest, "image: %d bytes long; a reference has at most %d", len(image), MaxReference)
	}
	named, err := reference.ParseNormalizedNamed(image)
	switch {
	case err != nil && names.ParseName(image).ID != "":
		return nil, Errorf(ErrInvalidRequest, "image: %q is not an image reference; write %s if it is an image ID", Clip(image), names.ParseName(image).ID)
	case err != nil:
		return nil, Errorf(ErrInvalidRequest, "image: %q is not an image reference: %w", Clip(image), err)
	}
	switch reference.FamiliarName(named) {
	case "scratch":
		return nil, Errorf(ErrInvalidRequest, "image: scratch is what images begin with, and no image; name one that can be pulled")
	case "sha256": // engines take it as an ID, or as the beginning of one
		return nil, Errorf(ErrInvalidRequest, "image: %q is an image ID or a part of one, which no registry knows; name a reference, or, for a pull of Towline's own or a run, the whole ID: sha256: and 64 digits in lower case", Clip(image))
	}
	if err := CheckRegistry(named); err != nil {
		return nil, err
	}
	return reference.TagNameOnly(named), nil
}

// ParseImage returns the full form of what names an image: a reference, or an ID,
// which is sha256: and 64 digits. named is nil of an ID. The error is ErrInvalidRequest
// and names the image field.
func ParseImage(image string) (full string, named reference.Named, err error) {
	if id := names.ParseName(ClipTo(image, MaxReference)).ID; id != "" && id == image {
		return id, nil, nil
	}
	named, err = ParseReference(image)
	if err != nil {
		return "", nil, err
	}
	return named.String(), named, nil
}

// CheckRegistry returns why a reference names no registry that can be told from
// others.
func CheckRegistry(named reference.Named) error {
	host := reference.Domain(named)
	if _, err := names.CanonicalAddress(host); err != nil {
		return Errorf(ErrInvalidRequest, "image: the registry %q %w", Clip(host), err)
	}
	return nil
}
