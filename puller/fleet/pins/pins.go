// Package pins asks registries for the digests that the tags of a set have.
package pins

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/fleet"
	"github.com/towline/towline/puller/names"
)

const (
	limit        = 2 * time.Minute // for all images of a set
	atATime      = 8               // images
	maxPlatforms = 8               // whose manifests are told
)

// Resolve pins images. Those of old stay as they are. platforms are those of the hosts that get
// them. The error names each image that can't be pinned.
func Resolve(ctx context.Context, registry puller.Registry, wanted puller.Images, old []fleet.Image, platforms []string) ([]fleet.Image, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	platforms = platforms[:min(len(platforms), maxPlatforms)]
	images := make([]fleet.Image, len(wanted))
	var mu sync.Mutex
	faults := make(map[int]error)
	var group errgroup.Group
	group.SetLimit(atATime)
	for i, one := range wanted {
		group.Go(func() error {
			for _, was := range old {
				if was.Image == one.Image && was.Platform == one.Platform {
					images[i] = was
					return nil
				}
			}
			image, err := pin(ctx, registry, one, platforms)
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
func pin(ctx context.Context, registry puller.Registry, one puller.PullRequest, platforms []string) (fleet.Image, error) {
	pinned := fleet.Image{Image: one.Image, Platform: one.Platform}
	var err error
	if pinned.Digest, err = registry.Head(ctx, one.Image, puller.Credentials{}); err != nil {
		return pinned, err
	}
	if one.Platform != "" {
		platforms = []string{one.Platform}
	}
	named := names.ParseName(one.Image)
	for _, p := range platforms {
		// It tells hosts what they may also call the image. Without it they get it all the same.
		m, err := registry.Manifest(ctx, puller.ManifestQuery{Image: named.Repository + "@" + pinned.Digest, Platform: p, Free: true})
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
