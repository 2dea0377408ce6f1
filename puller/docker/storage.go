package docker

import (
	"context"
	"os"
	"strings"

	"github.com/docker/docker/api/types/image"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker/classify"
)

// maxInspects is how many inspects run at a time. The list of images does not have their
// layers.
const maxInspects = 8

// Storage implements puller.Engine.
func (e *Engine) Storage(ctx context.Context) (puller.Storage, error) {
	ids, err := withRenegotiation(func() ([]string, error) { return e.imageIDs(ctx) })
	if err != nil {
		return puller.Storage{}, err
	}
	found := make([][]puller.Image, len(ids))
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(maxInspects)
	for i, id := range ids {
		group.Go(func() (err error) {
			found[i], err = e.images.whole(inner, id)
			switch puller.KindOf(err) {
			case puller.ErrNotFound, puller.ErrInternal, puller.ErrPlatformMismatch:
				// The image was removed meanwhile, or the engine itself can't read it.
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return puller.Storage{}, err
	}
	storage := puller.Storage{}
	for _, images := range found {
		storage.Images = append(storage.Images, images...)
	}
	storage.Free, err = e.free(ctx)
	return storage, err
}

// imageIDs returns each image once, without the intermediate images of older builders:
// the images that were built from them have their layers.
func (e *Engine) imageIDs(ctx context.Context) ([]string, error) {
	ctx, cancel := withLimit(ctx, callLimit)
	defer cancel()
	sdk, err := e.client(ctx)
	if err != nil {
		return nil, e.classified(ctx, classify.OpImages, "", err)
	}
	list, err := sdk.ImageList(ctx, image.ListOptions{})
	if err != nil {
		return nil, e.classified(ctx, classify.OpImages, "", err)
	}
	seen := make(map[string]bool, len(list))
	var ids []string
	for _, i := range list {
		if !seen[i.ID] {
			seen[i.ID] = true
			ids = append(ids, i.ID)
		}
	}
	return ids, nil
}

// containerdRoot is where containerd keeps images that are not in dockerd's directory (containerd's config.toml, "root").
const containerdRoot = "/var/lib/containerd"

// free returns the free bytes on the engine's disk. A unix socket can be forwarded from
// another machine, so the result is nil unless the engine is on a unix socket, reports
// this machine's host name, and its directory exists here.
func (e *Engine) free(ctx context.Context) (*int64, error) {
	if !strings.HasPrefix(e.host, "unix://") {
		return nil, nil
	}
	ctx, cancel := withLimit(ctx, callLimit)
	defer cancel()
	_, info, err := e.systemInfo(ctx)
	if err != nil {
		return nil, err
	}
	if host, err := os.Hostname(); err != nil || info.Name != "" && info.Name != host || info.DockerRootDir == "" {
		return nil, nil
	}
	free, known := freeBytes(info.DockerRootDir)
	if !known {
		return nil, nil
	}
	if imageStore(info) == "containerd" {
		// The engine does not say which of the two it uses.
		if other, known := freeBytes(containerdRoot); known {
			free = min(free, other)
		}
	}
	return &free, nil
}
