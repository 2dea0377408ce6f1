// Package definition knows what sets are asked to be: it checks requests, and fills in their
// defaults.
package definition

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/keep/schedule"
	"github.com/towline/towline/puller/names"
)

// Definition is what a set was asked to be, checked and with its defaults. It never changes.
type Definition struct {
	keep.SetRequest
	When        schedule.Schedule
	Fingerprint string // of the request
}

// Check checks a request and fills in its defaults. The error is ErrInvalidRequest or
// ErrForbidden.
func Check(service puller.Service, host, name string, r keep.SetRequest) (*Definition, error) {
	d, err := Define(host, name, r)
	if err != nil {
		return nil, err
	}
	checked, err := service.CheckPrewarm(Prewarm(d.SetRequest, d.Images))
	if err != nil {
		return nil, err
	}
	if len(checked.Images) == 0 {
		return nil, puller.Errorf(puller.ErrInvalidRequest, "images: all services are skipped, and a set needs an image")
	}
	seen := make(map[[2]string]bool)
	var kept puller.Images
	for i, one := range d.Images {
		// The other defaults are those of the daemon at the time of a refresh.
		one.Image, one.Platform = checked.Images[i].Image, checked.Images[i].Platform
		if key := [2]string{one.Image, one.Platform}; !seen[key] {
			seen[key] = true
			kept = append(kept, one)
		}
	}
	// What was accepted is not held to the caller's rules again.
	d.Images, d.Rules = kept, nil
	return Define(host, name, d.SetRequest)
}

// Define fills in the defaults of a request for a host, and reads its schedule. It asks nothing of
// anybody.
func Define(host, name string, r keep.SetRequest) (*Definition, error) {
	when, err := schedule.New(schedule.Request{Schedule: r.Schedule, Timezone: r.Timezone, Jitter: r.Jitter, Window: r.Window})
	if err != nil {
		return nil, err
	}
	switch r.Policy {
	case "":
		r.Policy = puller.PolicyNewer
	case puller.PolicyNewer, puller.PolicyMissing:
	default:
		return nil, puller.Errorf(puller.ErrInvalidRequest, "policy: %q is not one of a set; use newer or missing", puller.Clip(string(r.Policy)))
	}
	if r.Priority == "" {
		r.Priority = puller.PriorityLow
	}
	if r.Protect == nil {
		r.Protect = new(true)
	}
	r.Images = slices.Clone(r.Images)
	var faults puller.ImageFaults
	for i := range r.Images {
		one := &r.Images[i]
		if one.Lease != "" {
			faults.Add(i, puller.Errorf(puller.ErrInvalidRequest, "lease: a set keeps its images itself; leave it out"))
		}
		if names.ParseName(one.Image).ID != "" && one.Policy == "" {
			one.Policy = puller.PolicyMissing // no registry knows an ID
		}
	}
	if err := faults.Err(); err != nil {
		return nil, err
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	return &Definition{r, when.WithHost(host, name), hex.EncodeToString(sum[:16])}, nil
}

// Prewarm returns the request for a job that pulls images of a set.
func Prewarm(r keep.SetRequest, images puller.Images) puller.PrewarmRequest {
	p := puller.PrewarmRequest{Images: images, Policy: r.Policy, Priority: r.Priority, Platform: r.Platform}
	p.Skipped, p.Caller, p.Rules = r.Skipped, r.Caller, r.Rules
	return p
}

// Keys returns under what an image may be found that is in the set. An image that is named by
// its digest may have lost all names: in the containerd image store, the digest is its ID.
func (d *Definition) Keys() (keys []string) {
	for _, i := range d.Images {
		keys = append(keys, names.EngineRef(i.Image))
		if n := names.ParseName(i.Image); n.Digest != "" {
			keys = append(keys, n.Digest)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
