package requests

import (
	"time"

	"github.com/distribution/reference"

	"github.com/towline/towline/puller"
)

// Limits of what a request may ask for.
const (
	maxKey     = 255 // bytes of an idempotency key
	maxRetries = 20
	maxTimeout = 24 * time.Hour
)

// ofID checks a request for an image ID, which only the engine knows: nothing can be
// asked of a registry.
func (d Defaults) ofID(r puller.PullRequest) (puller.PullRequest, error) {
	r.Credentials = puller.Credentials{}
	switch {
	case r.Policy == "":
		r.Policy = puller.PolicyMissing
	case r.Policy.AsksRegistry():
		return r, puller.Errorf(puller.ErrInvalidRequest, "policy: %s asks a registry, and %s is an image ID, which none knows; use missing or never, or name a reference", r.Policy, r.Image)
	}
	if d.VerifyAccess {
		return r, puller.Errorf(puller.ErrForbidden, "image: %s is an image ID, of which no registry can say who may have it (auth.verify_image_access); name a reference", r.Image)
	}
	return r, nil
}

// Pull checks a request and fills in what was left out. named is its
// reference, nil for an ID. The error is ErrInvalidRequest or ErrForbidden.
func (d Defaults) Pull(r puller.PullRequest) (_ puller.PullRequest, named reference.Named, err error) {
	if r.Image, named, err = puller.ParseImage(r.Image); err != nil {
		return r, nil, err
	}
	if named != nil {
		if own := r.Credentials.For(named); own != r.Credentials {
			r.Credentials, r.Withheld = own, r.Credentials.Registry()
		}
	} else if r, err = d.ofID(r); err != nil {
		return r, nil, err
	}
	if r.Platform != "" {
		if r.Platform, err = d.platform(r.Platform); err != nil {
			return r, nil, err
		}
	}
	if r.Policy == "" {
		r.Policy = d.Policy
	}
	if _, err := puller.ParsePolicy(string(r.Policy)); err != nil {
		return r, nil, err
	}
	switch r.Priority {
	case "":
		r.Priority = puller.PriorityNormal
	case puller.PriorityHigh, puller.PriorityNormal, puller.PriorityLow:
	default:
		return r, nil, puller.Errorf(puller.ErrInvalidRequest, "priority: %q is not known; use high, normal or low", puller.Clip(string(r.Priority)))
	}
	if err := checkAccelerate(r.Accelerate); err != nil {
		return r, nil, err
	}
	if r.Timeout == 0 {
		r.Timeout = puller.Duration(d.Timeout)
	}
	if t := time.Duration(r.Timeout); t < 0 || t > maxTimeout {
		return r, nil, puller.Errorf(puller.ErrInvalidRequest, "timeout: %s is not between 0s and %s", t, maxTimeout)
	}
	if r.Retries == nil {
		r.Retries = &d.Retries
	}
	if *r.Retries < 0 || *r.Retries > maxRetries {
		return r, nil, puller.Errorf(puller.ErrInvalidRequest, "retries: %d is not between 0 and %d", *r.Retries, maxRetries)
	}
	if len(r.IdempotencyKey) > maxKey {
		return r, nil, puller.Errorf(puller.ErrInvalidRequest, "Idempotency-Key: %d bytes long; it has at most %d", len(r.IdempotencyKey), maxKey)
	}
	return r, named, nil
}

// checkAccelerate returns ErrInvalidRequest if the value is not known. "" is AccelerateAuto.
func checkAccelerate(a puller.Accelerate) error {
	switch a {
	case "", puller.AccelerateAuto, puller.AccelerateOff:
		return nil
	}
	return puller.Errorf(puller.ErrInvalidRequest, "accelerate: %q is not known; use auto or off", puller.Clip(string(a)))
}
