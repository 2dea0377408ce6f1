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

func (p Priority) Rank() int {
	switch p {
	case PriorityHigh:
		return 2
	case PriorityNormal:
		return 1
	}
	return 0
}

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

	Credentials Credentials `json:"-"`
	// Withheld is the registry that the request's credentials are for, where that is
	// not the image's own: then they are not used. WithDefaults sets it.
	Withheld string `json:"-"`
	// IdempotencyKey makes a request that is sent again give the job that it
	// gave before to the same caller. For a key that came with another request
	// of theirs the error is ErrConflict.
	IdempotencyKey string `json:"-"`
	// Caller is who asks, "" where that is not known. Slots are shared fairly
	// among callers.
	Caller string `json:"-"`
	// Rules are the caller's own, beside those of the daemon. What was accepted is
	// not held to them again.
	Rules Rules `json:"-"`
}

// limits of what a request may ask for.
const (
	MaxReference = 1 << 10 // bytes; a name has at most 255 and a digest 71
	maxKey       = 255     // bytes of an idempotency key
	maxRetries   = 20
	maxTimeout   = 24 * time.Hour
)

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

// ofID checks a request for an image ID, which only the engine knows: nothing can be
// asked of a registry.
func (r PullRequest) ofID(o Defaults) (PullRequest, error) {
	r.Credentials = Credentials{}
	switch {
	case r.Policy == "":
		r.Policy = PolicyMissing
	case r.Policy.AsksRegistry():
		return r, Errorf(ErrInvalidRequest, "policy: %s asks a registry, and %s is an image ID, which none knows; use missing or never, or name a reference", r.Policy, r.Image)
	}
	if o.VerifyAccess {
		return r, Errorf(ErrForbidden, "image: %s is an image ID, of which no registry can say who may have it (auth.verify_image_access); name a reference", r.Image)
	}
	return r, nil
}

// WithDefaults checks the request and fills in what was left out. named is its
// reference, nil for an ID. The error is ErrInvalidRequest or ErrForbidden.
func (r PullRequest) WithDefaults(o Defaults) (_ PullRequest, named reference.Named, err error) {
	if r.Image, named, err = ParseImage(r.Image); err != nil {
		return r, nil, err
	}
	if named != nil {
		if own := r.Credentials.For(named); own != r.Credentials {
			r.Credentials, r.Withheld = own, r.Credentials.Registry()
		}
	} else if r, err = r.ofID(o); err != nil {
		return r, nil, err
	}
	if r.Platform != "" {
		if r.Platform, err = o.wholePlatform(r.Platform); err != nil {
			return r, nil, err
		}
	}
	if r.Policy == "" {
		r.Policy = o.Policy
	}
	if _, err := ParsePolicy(string(r.Policy)); err != nil {
		return r, nil, err
	}
	switch r.Priority {
	case "":
		r.Priority = PriorityNormal
	case PriorityHigh, PriorityNormal, PriorityLow:
	default:
		return r, nil, Errorf(ErrInvalidRequest, "priority: %q is not known; use high, normal or low", Clip(string(r.Priority)))
	}
	if err := r.Accelerate.check(); err != nil {
		return r, nil, err
	}
	if r.Timeout == 0 {
		r.Timeout = Duration(o.Timeout)
	}
	if t := time.Duration(r.Timeout); t < 0 || t > maxTimeout {
		return r, nil, Errorf(ErrInvalidRequest, "timeout: %s is not between 0s and %s", t, maxTimeout)
	}
	if r.Retries == nil {
		r.Retries = &o.Retries
	}
	if *r.Retries < 0 || *r.Retries > maxRetries {
		return r, nil, Errorf(ErrInvalidRequest, "retries: %d is not between 0 and %d", *r.Retries, maxRetries)
	}
	if len(r.IdempotencyKey) > maxKey {
		return r, nil, Errorf(ErrInvalidRequest, "Idempotency-Key: %d bytes long; it has at most %d", len(r.IdempotencyKey), maxKey)
	}
	return r, named, nil
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
