package requests

import (
	"fmt"
	"slices"
	"sync"

	"github.com/distribution/reference"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/credentials"
	"github.com/towline/towline/puller/names"
)

// Limits of the list of services that a prewarm skips: how many they are, how long a
// name may be, and how long all names and reasons may be together.
const (
	maxSkipped      = 3000
	maxService      = 255 // bytes
	maxSkippedBytes = 256 << 10
)

// checkSkipped bounds the list of services that a prewarm skips.
func checkSkipped(all []puller.Skipped) error {
	if len(all) > maxSkipped {
		return puller.Errorf(puller.ErrInvalidRequest, "services: %d have no image to pull; one prewarm takes at most %d of them, so leave some out", len(all), maxSkipped)
	}
	for _, s := range all {
		if len(s.Service) > maxService {
			return puller.Errorf(puller.ErrInvalidRequest, "services: the name %q is longer than %d bytes; shorten it", puller.Clip(s.Service), maxService)
		}
	}
	if n := SkippedBytes(all); n > maxSkippedBytes {
		return puller.Errorf(puller.ErrInvalidRequest, "services: of those that have no image to pull, the names and reasons have %d bytes; at most %d are taken, so leave some out", n, maxSkippedBytes)
	}
	return nil
}

// Prewarm checks a request and fills in what was left out, in the images too.
// One image that is forbidden forbids it all.
func (d Defaults) Prewarm(r puller.PrewarmRequest) (puller.PrewarmRequest, error) {
	switch {
	case len(r.Images) == 0 && len(r.Skipped) == 0:
		return r, puller.Errorf(puller.ErrInvalidRequest, "images: missing; name at least one")
	}
	if err := puller.CheckImages(len(r.Images)); err != nil {
		return r, err
	}
	if err := checkSkipped(r.Skipped); err != nil {
		return r, err
	}
	d.OwnPlatform = sync.OnceValues(d.OwnPlatform) // the engine is asked once
	// The fields for all images are checked in a request of their own, so that an error
	// does not name the first image.
	all := puller.PullRequest{
		Image: "image", Platform: r.Platform, Policy: r.Policy, Priority: r.Priority, Timeout: r.Timeout, Retries: r.Retries,
		Accelerate: r.Accelerate, IdempotencyKey: r.IdempotencyKey,
	}
	all, _, err := d.Pull(all)
	if err != nil {
		return r, err
	}
	policy := r.Policy // "" leaves it to each image: an ID has another default
	r.Platform, r.Policy, r.Priority, r.Timeout, r.Retries = all.Platform, all.Policy, all.Priority, all.Timeout, all.Retries
	images := make(puller.Images, len(r.Images))
	var faults puller.ImageFaults
	for i, one := range r.Images {
		if one.Platform == "" {
			one.Platform = r.Platform
		}
		if one.Policy == "" {
			one.Policy = policy
		}
		if one.Priority == "" {
			one.Priority = r.Priority
		}
		if one.Timeout == 0 {
			one.Timeout = r.Timeout
		}
		if one.Retries == nil {
			one.Retries = r.Retries
		}
		if one.Accelerate == "" {
			one.Accelerate = r.Accelerate
		}
		one.Strict = one.Strict || r.Strict
		one.Credentials, one.Caller, one.Rules = r.Credentials, r.Caller, r.Rules
		var named reference.Named
		if _, named, err = puller.ParseImage(one.Image); err == nil && named != nil {
			one.Credentials = credentials.Select(r.Logins, r.Credentials, named)
		}
		if images[i], named, err = d.Pull(one); err == nil {
			err = d.Check(puller.JobPrewarm, named, images[i])
		}
		switch kind := puller.KindOf(err); {
		case err == nil:
		case faults.Kind() != "" && kind != faults.Kind():
		case kind == puller.ErrInvalidRequest, kind == puller.ErrForbidden:
			faults.Add(i, err)
		default: // not a fault of the request
			return r, fmt.Errorf("images[%d]: %w", i, err)
		}
	}
	if err := faults.Err(); err != nil {
		return r, err
	}
	r.Images = images
	return r, checkServer(r.Credentials, images)
}

// checkServer returns why credentials can't be used for images: they do not say
// for which of several registries they are.
func checkServer(c puller.Credentials, images []puller.PullRequest) error {
	if c == (puller.Credentials{}) || c.Registry() != "" {
		return nil
	}
	var registries []string
	for _, r := range images {
		if names.ParseName(r.Image).ID == "" { // no registry is asked for an ID
			registries = append(registries, names.RegistryOf(r.Image))
		}
	}
	slices.Sort(registries)
	if registries = slices.Compact(registries); len(registries) < 2 {
		return nil
	}
	return puller.Errorf(puller.ErrInvalidRequest, "X-Registry-Auth: it has no serveraddress, and the images are of several registries (%s); "+
		"name the one that may see it as serveraddress, or ask for the images of each registry on their own", puller.Listed(registries))
}
