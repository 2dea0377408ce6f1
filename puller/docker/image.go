package docker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/towline/towline/puller"
)

// Inspect implements puller.Engine.
func (e *Engine) Inspect(ctx context.Context, ref, platform string) (puller.Image, error) {
	ctx, cancel := limited(ctx, callLimit)
	defer cancel()
	return renegotiated(func() (puller.Image, error) { return e.inspect(ctx, ref, platform) })
}

func (e *Engine) inspect(ctx context.Context, ref, platform string) (puller.Image, error) {
	sdk, found, err := e.lookUp(ctx, ref)
	switch {
	case err != nil:
		return puller.Image{}, err
	case isIndex(found):
		return e.inIndex(ctx, sdk, found, platform)
	}
	return single(found), nil
}

// kept returns all images that the engine has whole under an ID: one, or one for each
// platform.
func (e *Engine) kept(ctx context.Context, id string) (images []puller.Image, err error) {
	ctx, cancel := limited(ctx, callLimit)
	defer cancel()
	return renegotiated(func() ([]puller.Image, error) {
		sdk, found, err := e.lookUp(ctx, id)
		switch {
		case err != nil:
			return nil, err
		case isIndex(found):
			return e.allOf(ctx, sdk, found)
		}
		if i := single(found); i.Content == puller.ContentWhole {
			return []puller.Image{i}, nil
		}
		return nil, nil
	})
}

// single returns an image that an answer tells all of.
func single(found image.InspectResponse) puller.Image {
	i := imageOf(found)
	switch own := summaryOf(found, found.ID); {
	case !inContainerd(found):
		i.Content = puller.ContentWhole
	case own != nil:
		i.Manifest, i.Content = own.ID, contentOf(own)
	}
	return i
}

// tellsManifests is the API version from which on an engine tells what its store has
// of an image's manifests.
const tellsManifests = "1.48"

// outgrown reports whether the engine has become one that tells more than the API
// version that was negotiated, and has the next call negotiate it anew. An engine that
// was exchanged between two calls may have gone unnoticed.
func (e *Engine) outgrown(ctx context.Context, sdk *client.Client) bool {
	if !e.negotiate || versions.GreaterThanOrEqualTo(sdk.ClientVersion(), tellsManifests) {
		return false
	}
	ping, err := sdk.Ping(ctx)
	return err == nil && versions.GreaterThanOrEqualTo(ping.APIVersion, tellsManifests) && e.sdk.CompareAndSwap(sdk, nil)
}

// lookUp asks for what the engine has under a reference or an ID, and for the
// manifests of it where the engine can tell them.
func (e *Engine) lookUp(ctx context.Context, ref string) (*client.Client, image.InspectResponse, error) {
	sdk, err := e.client(ctx)
	if err != nil {
		return nil, image.InspectResponse{}, e.fault(ctx, "inspect", ref, err)
	}
	var opts []client.ImageInspectOption
	if versions.GreaterThanOrEqualTo(sdk.ClientVersion(), tellsManifests) {
		opts = append(opts, client.ImageInspectWithManifests(true)) // and no platform: engines take one of the two
	}
	found, err := e.ask(ctx, sdk, ref, opts...)
	if err == nil && inContainerd(found) && e.outgrown(ctx, sdk) {
		return e.lookUp(ctx, ref)
	}
	if err == nil && len(found.RepoTags)+len(found.RepoDigests) == 0 && !strings.HasPrefix(ref, "sha256:") {
		// It was found by a name, and those that it has were looked up a moment
		// later: in between it was removed.
		err = &puller.Error{Op: "inspect", Ref: ref, Kind: puller.ErrNotFound, Err: errors.New("the image has just lost its name")}
	}
	return sdk, found, err
}

func (e *Engine) ask(ctx context.Context, sdk *client.Client, ref string, opts ...client.ImageInspectOption) (image.InspectResponse, error) {
	found, err := sdk.ImageInspect(ctx, ref, opts...)
	if err != nil {
		return found, e.fault(ctx, "inspect", ref, err)
	}
	if _, err := digest.Parse(found.ID); err != nil {
		return found, &puller.Error{Op: "inspect", Ref: ref, Kind: puller.ErrInternal, Err: errNoID(found.ID)}
	}
	return found, nil
}

func errNoID(id string) error {
	if id == "" {
		return errors.New("the engine's answer has no image ID")
	}
	return fmt.Errorf("the engine's answer has no image ID, but %.80q", id)
}

// imageOf is what an answer tells by itself.
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

// platformOf is a platform as os/arch[/variant]; what is missing stays so.
func platformOf(p ocispec.Platform) string {
	parts := []string{p.OS, p.Architecture}
	if p.Variant != "" {
		parts = append(parts, p.Variant)
	}
	return strings.Join(parts, "/")
}

func ociPlatform(platform string) *ocispec.Platform {
	parts := strings.SplitN(platform+"//", "/", 4)
	return &ocispec.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
}
