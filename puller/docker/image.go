package docker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker/classify"
	"github.com/towline/towline/puller/docker/transport"
)

// images reads the images in the engine's store.
type images struct {
	conn *transport.Connection
	own  atomic.Pointer[enginePlatform]
}

// inspect returns the image under a reference or an ID, for a platform.
func (im *images) inspect(ctx context.Context, ref, platform string) (puller.Image, error) {
	sdk, found, err := im.lookUp(ctx, ref)
	switch {
	case err != nil:
		return puller.Image{}, err
	case isIndex(found):
		return im.inIndex(ctx, sdk, found, platform)
	}
	return singleImage(found), nil
}

// whole returns the complete images under an ID: one, or one for each platform.
func (im *images) whole(ctx context.Context, id string) (images []puller.Image, err error) {
	ctx, cancel := transport.WithLimit(ctx, transport.CallLimit)
	defer cancel()
	return transport.Renegotiated(func() ([]puller.Image, error) {
		sdk, found, err := im.lookUp(ctx, id)
		switch {
		case err != nil:
			return nil, err
		case isIndex(found):
			return im.allImages(ctx, sdk, found)
		}
		if i := singleImage(found); i.Content == puller.ContentWhole {
			return []puller.Image{i}, nil
		}
		return nil, nil
	})
}

// singleImage returns the image of an answer that is not an index.
func singleImage(found image.InspectResponse) puller.Image {
	i := imageOf(found)
	switch own := summaryOf(found, found.ID); {
	case !inContainerd(found):
		i.Content = puller.ContentWhole
	case own != nil:
		i.Manifest, i.Content = own.ID, contentOf(own)
	}
	return i
}

// manifestsAPI is the first API version whose answers list an image's manifests.
const manifestsAPI = "1.48"

// lookUp asks for the image under a reference or an ID, with its manifests where the API
// has them.
func (im *images) lookUp(ctx context.Context, ref string) (*client.Client, image.InspectResponse, error) {
	sdk, err := im.conn.Client(ctx)
	if err != nil {
		return nil, image.InspectResponse{}, im.conn.Classified(ctx, classify.OpInspect, ref, err)
	}
	var opts []client.ImageInspectOption
	if versions.GreaterThanOrEqualTo(sdk.ClientVersion(), manifestsAPI) {
		opts = append(opts, client.ImageInspectWithManifests(true)) // without a platform: engines accept only one of the two
	}
	found, err := im.inspectOnce(ctx, sdk, ref, opts...)
	if err == nil && inContainerd(found) && im.conn.HasNewerAPI(ctx, sdk, manifestsAPI) {
		return im.lookUp(ctx, ref)
	}
	if err == nil && len(found.RepoTags)+len(found.RepoDigests) == 0 && !strings.HasPrefix(ref, "sha256:") {
		// The engine finds an image by name first and looks its names up later.
		err = &puller.Error{Op: classify.OpInspect, Ref: ref, Kind: puller.ErrNotFound, Err: errors.New("the image was untagged during the inspect")}
	}
	return sdk, found, err
}

func (im *images) inspectOnce(ctx context.Context, sdk *client.Client, ref string, opts ...client.ImageInspectOption) (image.InspectResponse, error) {
	found, err := sdk.ImageInspect(ctx, ref, opts...)
	if err != nil {
		return found, im.conn.Classified(ctx, classify.OpInspect, ref, err)
	}
	if _, err := digest.Parse(puller.ClipTo(found.ID, maxDigest)); err != nil {
		return found, &puller.Error{Op: classify.OpInspect, Ref: ref, Kind: puller.ErrInternal, Err: errNoID(found.ID)}
	}
	return found, nil
}

func errNoID(id string) error {
	if id == "" {
		return errors.New("the engine's answer has no image ID")
	}
	return fmt.Errorf("the engine's answer has no image ID, but %.80q", id)
}

// imageOf returns the fields that every answer has.
func imageOf(found image.InspectResponse) puller.Image {
	return puller.Image{
		ID:          found.ID,
		RepoTags:    found.RepoTags,
		RepoDigests: found.RepoDigests,
		Platform:    platformOf(ocispec.Platform{OS: found.Os, Architecture: found.Architecture, Variant: found.Variant}),
		OSVersion:   found.OsVersion,
		Size:        found.Size,
		DiffIDs:     found.RootFS.Layers,
	}
}

// maxDigest bounds what is parsed as a digest, in bytes. SHA-512 has 135.
const maxDigest = 200

// platformOf formats a platform as os/arch[/variant]. Missing parts stay empty.
func platformOf(p ocispec.Platform) string {
	parts := []string{p.OS, p.Architecture}
	if p.Variant != "" {
		parts = append(parts, p.Variant)
	}
	return strings.Join(parts, "/")
}
