package control

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/fleet/known"
	"github.com/towline/towline/puller/names"
)

const (
	resolveLimit = 2 * time.Minute // for all images of a set
	resolvers    = 8               // images that are asked for at a time
	maxPlatforms = 8               // whose manifests are told
)

// resolve pins images. What old has pinned stays with PolicyMissing.
func (c *Controller) resolve(ctx context.Context, name string, r fleet.SetRequest, old *known.Record) ([]fleet.Image, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveLimit)
	defer cancel()
	platforms := c.platforms(name, r)
	images := make([]fleet.Image, len(r.Images))
	var mu sync.Mutex
	faults := make(map[int]error)
	var group errgroup.Group
	group.SetLimit(resolvers)
	for i, one := range r.Images {
		group.Go(func() error {
			if old != nil && r.Policy == puller.PolicyMissing {
				for _, was := range old.Images {
					if was.Image == one.Image && was.Platform == one.Platform {
						images[i] = was
						return nil
					}
				}
			}
			image, err := c.pin(ctx, one, platforms)
			mu.Lock()
			defer mu.Unlock()
			if images[i] = image; err != nil {
				faults[i] = err
			}
			return nil
		})
	}
	group.Wait()
	var all puller.ImageFaults
	for _, i := range slices.Sorted(maps.Keys(faults)) {
		all.Add(i, faults[i])
	}
	return images, all.Err()
}

// pin asks a registry which digest an image has.
func (c *Controller) pin(ctx context.Context, one puller.PullRequest, platforms []string) (fleet.Image, error) {
	pinned := fleet.Image{Image: one.Image, Platform: one.Platform}
	var err error
	if pinned.Digest, err = c.o.Registry.Head(ctx, one.Image, puller.Credentials{}); err != nil {
		return pinned, err
	}
	if one.Platform != "" {
		platforms = []string{one.Platform}
	}
	named := names.ParseName(one.Image)
	for _, p := range platforms {
		// It tells hosts what they may also call the image. Without it they get it all the same.
		m, err := c.o.Registry.Manifest(ctx, puller.ManifestQuery{Image: named.Repository + "@" + pinned.Digest, Platform: p, Free: true})
		switch {
		case err == nil && m.Digest == pinned.Digest && m.Image != m.Digest:
			if pinned.Manifests == nil {
				pinned.Manifests = make(map[string]string)
			}
			pinned.Manifests[p] = m.Image
		case one.Platform != "" && puller.KindOf(err) == puller.ErrPlatformMismatch:
			return pinned, err // no host could have it
		}
	}
	return pinned, nil
}

// platforms returns the platforms of the members of a set.
func (c *Controller) platforms(name string, r fleet.SetRequest) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := make(map[string]bool)
	s := &known.Set{Record: &known.Record{Request: r}}
	for _, id := range c.known.Members(name, s) {
		if h := c.known.Hosts[id]; h.Identity != nil && h.Identity.Platform != "" {
			found[h.Identity.Platform] = true
		}
	}
	all := slices.Sorted(maps.Keys(found))
	return all[:min(len(all), maxPlatforms)]
}
