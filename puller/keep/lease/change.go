package lease

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/keep"
	"github.com/towline/towline/puller/names"
)

const (
	// lookLimit is how long a new lease waits for the engine to say what its images are.
	lookLimit = 10 * time.Second
	looks     = 8 // at a time
)

// AddLease implements keep.Service.
func (l *Leases) AddLease(ctx context.Context, r keep.LeaseRequest) (keep.Lease, error) {
	ttl, err := keep.ParseLease("ttl", r.TTL)
	if err != nil {
		return keep.Lease{}, err
	}
	if len(r.Note) > keep.MaxLeaseNote {
		return keep.Lease{}, puller.Errorf(puller.ErrInvalidRequest, "note: %d bytes long; it has at most %d", len(r.Note), keep.MaxLeaseNote)
	}
	var wanted puller.PrewarmRequest
	wanted.Caller, wanted.Rules = r.Caller, r.Rules
	for _, image := range r.Images {
		wanted.Images = append(wanted.Images, puller.PullRequest{Image: image})
	}
	if wanted, err = l.o.Service.CheckPrewarm(wanted); err != nil {
		return keep.Lease{}, err
	}
	images := imagesOf(wanted.Images)
	release, err := l.o.Claims.Need(ctx, calledOf(images))
	if err != nil {
		return keep.Lease{}, err
	}
	defer release()
	k, err := l.add(record{Images: images, ImageIDs: l.look(ctx, images, r.Rules), TTL: ttl, Note: r.Note, Caller: r.Caller})
	if err != nil {
		return keep.Lease{}, err
	}
	return k.view(l.wall()), nil
}

// imagesOf returns the names of images, each once.
func imagesOf(all puller.Images) (images []string) {
	for _, one := range all {
		images = append(images, one.Image)
	}
	slices.Sort(images)
	return slices.Compact(images)
}

// calledOf returns what engines call images.
func calledOf(images []string) (called []string) {
	for _, image := range images {
		called = append(called, names.EngineRef(image))
	}
	return called
}

// look returns the IDs of those images that the engine has. Where it does not answer, the
// lease is for the names alone.
func (l *Leases) look(ctx context.Context, images []string, rules puller.Rules) []string {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	found := make([]string, len(images))
	var asks errgroup.Group
	asks.SetLimit(looks)
	for i, image := range images {
		if names.ParseName(image).ID != "" {
			continue // it is one
		}
		asks.Go(func() error {
			if here, err := l.o.Service.Image(ctx, image, "", rules); err == nil {
				found[i] = here.ID
			}
			return nil
		})
	}
	asks.Wait()
	return compactIDs(found)
}

// compactIDs sorts IDs and drops empty and repeated ones.
func compactIDs(ids []string) []string {
	slices.Sort(ids)
	return slices.DeleteFunc(slices.Compact(ids), func(id string) bool { return id == "" })
}

// add keeps a new lease. The error is ErrOverloaded, or the disk's.
func (l *Leases) add(r record) (*kept, error) {
	l.saving.Lock()
	defer l.saving.Unlock()
	l.mu.Lock()
	n, images := len(l.all), l.images
	l.mu.Unlock()
	switch {
	case n >= keep.MaxLeases:
		return nil, puller.Overloaded("there are %d leases, and at most %d are kept: end some", n, keep.MaxLeases)
	case images+len(r.Images) > keep.MaxLeaseImages:
		return nil, puller.Overloaded("the leases have %d images, and with this one they would have more than %d: end some", images, keep.MaxLeaseImages)
	}
	r.Created = l.wall()
	r.Expires = r.Created.Add(r.TTL)
	k := &kept{record: r, id: ulid.Make().String(), deadline: time.Now().Add(r.TTL)}
	return k, l.save(k)
}

// save keeps a lease on disk, and then makes it known. saving is held.
func (l *Leases) save(k *kept) error {
	value, err := json.Marshal(k.record)
	if err != nil {
		return err
	}
	if err := l.o.Records.Save(kind, map[string][]byte{k.id: value}); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.put(k)
	return nil
}

// change replaces a lease by what edit makes of its record. The lease ends after its TTL
// from a time on, or, where that is zero, as before.
func (l *Leases) change(id string, edit func(*record), from time.Time) (*kept, error) {
	l.saving.Lock()
	defer l.saving.Unlock()
	old, err := l.get(id)
	if err != nil {
		return nil, err
	}
	k := *old
	k.unsaved = false
	edit(&k.record)
	if !from.IsZero() {
		wall := l.wall()
		k.Renewed = wall
		k.Expires = from.Add(k.TTL)
		k.adjust(wall)
		k.unsaved, k.deadline = false, time.Now().Add(k.Expires.Sub(wall))
	}
	return &k, l.save(&k)
}

// RenewLease implements keep.Service.
func (l *Leases) RenewLease(id, text string) (keep.Lease, error) {
	ttl, err := keep.ParseLease("ttl", text)
	if err != nil {
		return keep.Lease{}, err
	}
	k, err := l.change(id, func(r *record) { r.TTL = ttl }, l.wall())
	if err != nil {
		return keep.Lease{}, err
	}
	return k.view(l.wall()), nil
}

// EndLease implements keep.Service.
func (l *Leases) EndLease(id string) (keep.Lease, error) {
	l.saving.Lock()
	defer l.saving.Unlock()
	k, err := l.get(id)
	if err != nil {
		return keep.Lease{}, err
	}
	return k.view(l.wall()), l.forget([]string{id})
}

// forget drops leases. saving is held.
func (l *Leases) forget(ids []string) error {
	if err := l.o.Records.Delete(kind, ids); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		l.drop(id)
	}
	return nil
}
