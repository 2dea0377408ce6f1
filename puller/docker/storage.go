package docker

import (
	"context"

	"github.com/docker/docker/api/types/image"
	"golang.org/x/sync/errgroup"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker/classify"
	"github.com/towline/towline/puller/docker/transport"
	"github.com/towline/towline/puller/engines"
)

// maxInspects is how many inspects run at a time. The list of images does not have their
// layers.
const maxInspects = 8

// Storage implements engines.Engine.
func (e *Engine) Storage(ctx context.Context) (engines.Storage, error) {
	ids, err := transport.Renegotiated(func() ([]string, error) { return e.imageIDs(ctx) })
	if err != nil {
		return engines.Storage{}, err
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
		return engines.Storage{}, err
	}
	storage := engines.Storage{}
	for _, images := range found {
		storage.Images = append(storage.Images, images...)
	}
	disk, err := e.Disk(ctx)
	if disk != nil {
		storage.Free = &disk.Free
	}
	return storage, err
}

// imageIDs returns each image once, without the intermediate images of older builders:
// the images that were built from them have their layers.
func (e *Engine) imageIDs(ctx context.Context) ([]string, error) {
	ctx, cancel := transport.WithLimit(ctx, transport.CallLimit)
	defer cancel()
	sdk, err := e.conn.Client(ctx)
	if err != nil {
		return nil, e.conn.Classified(ctx, classify.OpImages, "", err)
	}
	list, err := sdk.ImageList(ctx, image.ListOptions{})
	if err != nil {
		return nil, e.conn.Classified(ctx, classify.OpImages, "", err)
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
