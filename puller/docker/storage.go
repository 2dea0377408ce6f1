package docker

import (
	"context"
	"os"
	"strings"

	"github.com/docker/docker/api/types/image"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/puller"
)

// maxInspects is how many images are inspected at a time: the list of images
// does not tell their layers.
const maxInspects = 8

// Storage implements puller.Engine.
func (e *Engine) Storage(ctx context.Context) (puller.Storage, error) {
	ids, err := renegotiated(func() ([]string, error) { return e.imageIDs(ctx) })
	if err != nil {
		return puller.Storage{}, err
	}
	found := make([][]puller.Image, len(ids))
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(maxInspects)
	for i, id := range ids {
		group.Go(func() (err error) {
			found[i], err = e.kept(inner, id)
			switch puller.KindOf(err) {
			case puller.ErrNotFound, puller.ErrInternal, puller.ErrPlatformMismatch:
				// It went meanwhile, or the engine itself can't make it out.
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return puller.Storage{}, err
	}
	stock := puller.Storage{}
	for _, images := range found {
		stock.Images = append(stock.Images, images...)
	}
	stock.Free, err = e.free(ctx)
	return stock, err
}

// imageIDs leaves out what only older builders keep: images in between, whose
// layers are in those that were built from them.
func (e *Engine) imageIDs(ctx context.Context) ([]string, error) {
	ctx, cancel := limited(ctx, callLimit)
	defer cancel()
	sdk, err := e.client(ctx)
	if err != nil {
		return nil, e.fault(ctx, "list the images", "", err)
	}
	list, err := sdk.ImageList(ctx, image.ListOptions{})
	if err != nil {
		return nil, e.fault(ctx, "list the images", "", err)
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

// containerdRoot is where containerd keeps images that are not in dockerd's
// own directory (containerd's config.toml, "root").
const containerdRoot = "/var/lib/containerd"

// free returns how many bytes are left where the engine keeps images. It is nil
// unless the engine is on a unix socket, calls its machine what this one is
// called, and its directory is there: a socket can be forwarded from elsewhere.
func (e *Engine) free(ctx context.Context) (*int64, error) {
	if !strings.HasPrefix(e.host, "unix://") {
		return nil, nil
	}
	ctx, cancel := limited(ctx, callLimit)
	defer cancel()
	sdk, err := e.client(ctx)
	if err != nil {
		return nil, e.fault(ctx, "ask the engine", "", err)
	}
	info, err := sdk.Info(ctx)
	if err != nil {
		return nil, e.fault(ctx, "ask the engine", "", err)
	}
	if host, err := os.Hostname(); err != nil || info.Name != "" && info.Name != host || info.DockerRootDir == "" {
		return nil, nil
	}
	free, known := freeBytes(info.DockerRootDir)
	if !known {
		return nil, nil
	}
	if imageStore(info) == "containerd" {
		// The engine does not tell which of the two it is.
		if other, known := freeBytes(containerdRoot); known {
			free = min(free, other)
		}
	}
	return &free, nil
}
