package docker

import (
	"context"
	"strings"

	"github.com/containerd/platforms"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker/classify"
	"github.com/towline/towline/puller/docker/transport"
)

// The containerd image store keeps an index with the platforms that were pulled. All of
// them have one ID, the index's digest. A platform's own manifest has a digest too, but
// the API does not find it by that. Since API 1.48, an answer has a summary of each
// manifest, which says whether its content is available. Since API 1.49, a request can
// ask for one platform's configuration.

// inContainerd reports whether an answer comes from the containerd image store. Below API
// 1.48 the ID shows it: there it is the digest in the registry, elsewhere the digest of
// the configuration.
func inContainerd(found image.InspectResponse) bool {
	if found.Descriptor != nil || len(found.Manifests) > 0 {
		return true
	}
	for _, d := range found.RepoDigests {
		if strings.HasSuffix(d, "@"+found.ID) {
			return true
		}
	}
	return false
}

// isIndex reports whether an answer describes an index and lists its manifests.
func isIndex(found image.InspectResponse) bool {
	return len(found.Manifests) > 0 && summaryOf(found, found.ID) == nil
}

// summaryOf returns the summary of a manifest, nil where there is none.
func summaryOf(found image.InspectResponse, id string) *image.ManifestSummary {
	for i := range found.Manifests {
		if m := &found.Manifests[i]; m.ID == id && isImage(m) {
			return m
		}
	}
	return nil
}

// isImage reports whether a manifest is a platform's image and not an attestation.
func isImage(m *image.ManifestSummary) bool {
	return m.Kind == image.ManifestKindImage && m.ImageData != nil
}

func contentOf(m *image.ManifestSummary) puller.Content {
	if m.Available {
		return puller.ContentWhole
	}
	return puller.ContentPartial
}

// inIndex returns an index's image for a platform; "" is the engine's own. Where the index
// has none, the result has the index's names and the platform of another image of it.
func (im *images) inIndex(ctx context.Context, sdk *client.Client, index image.InspectResponse, platform string) (puller.Image, error) {
	i := imageOf(index)
	i.Platform, i.OSVersion, i.Size, i.DiffIDs, i.Content = "", "", 0, nil, puller.ContentPartial
	m, err := im.ofPlatform(ctx, sdk, index.Manifests, platform)
	if err != nil {
		return puller.Image{}, err
	}
	if m == nil {
		if m := choose(index.Manifests, platforms.All, func(m *image.ManifestSummary) bool { return m.Available }); m != nil {
			i.Platform = platformOf(m.ImageData.Platform)
		}
		return i, nil
	}
	asked := transport.Platform(platform)
	if platform == "" {
		asked = &m.ImageData.Platform
	}
	return im.describe(ctx, sdk, index, m, asked)
}

// describe returns one of an index's images. Its platform and layers come from its
// configuration where the engine has it and the API can return it, or else from the
// index.
func (im *images) describe(ctx context.Context, sdk *client.Client, index image.InspectResponse, m *image.ManifestSummary, asked *ocispec.Platform) (puller.Image, error) {
	i := imageOf(index)
	i.Manifest, i.Content, i.Size, i.DiffIDs = m.ID, contentOf(m), m.Size.Total, nil
	i.Platform, i.OSVersion = platformOf(m.ImageData.Platform), m.ImageData.Platform.OSVersion
	if !m.Available || versions.LessThan(sdk.ClientVersion(), "1.49") {
		return i, nil
	}
	// By the index's ID: a tag can move meanwhile. The answer's ID is the digest of the
	// platform's manifest.
	found, err := im.inspectOnce(ctx, sdk, index.ID, client.ImageInspectWithPlatform(asked))
	if err != nil {
		return puller.Image{}, err
	}
	if m = summaryOf(index, found.ID); m == nil {
		return puller.Image{}, puller.Errorf(puller.ErrInternal, "inspect %s: the engine answers with image %.80q for platform %s, which is not in the index", index.ID, found.ID, platformOf(*asked))
	}
	configured := imageOf(found)
	i.Manifest, i.Content = m.ID, contentOf(m)
	i.Platform, i.OSVersion, i.Size, i.DiffIDs = configured.Platform, configured.OSVersion, configured.Size, configured.DiffIDs
	return i, nil
}

// allImages returns the complete images of an index.
func (im *images) allImages(ctx context.Context, sdk *client.Client, index image.InspectResponse) (images []puller.Image, err error) {
	for n := range index.Manifests {
		m := &index.Manifests[n]
		if !isImage(m) || !m.Available {
			continue
		}
		i, err := im.describe(ctx, sdk, index, m, &m.ImageData.Platform)
		if err != nil {
			return nil, err
		}
		images = append(images, i)
	}
	return images, nil
}

// ofPlatform returns the manifest that the engine chooses for a platform, nil for none.
func (im *images) ofPlatform(ctx context.Context, sdk *client.Client, index []image.ManifestSummary, platform string) (*image.ManifestSummary, error) {
	every := func(*image.ManifestSummary) bool { return true }
	if platform != "" {
		return choose(index, platforms.OnlyStrict(*transport.Platform(platform)), every), nil
	}
	own, err := im.ownPlatform(ctx, sdk)
	if err != nil {
		return nil, err
	}
	best := choose(index, platforms.Only(own), every)
	if best == nil || best.Available {
		return best, nil
	}
	// The engine does not report its processor's variant. It may have chosen a lower one.
	lower := choose(index, platforms.Only(own), func(m *image.ManifestSummary) bool {
		return m.Available && m.ImageData.Platform.Architecture == best.ImageData.Platform.Architecture
	})
	if lower != nil {
		return lower, nil
	}
	return best, nil
}

// choose returns the manifest that an engine chooses from the wanted ones of an index,
// nil for none.
func choose(index []image.ManifestSummary, matcher platforms.MatchComparer, wanted func(*image.ManifestSummary) bool) (best *image.ManifestSummary) {
	for n := range index {
		m := &index[n]
		if isImage(m) && wanted(m) && matcher.Match(m.ImageData.Platform) &&
			(best == nil || matcher.Less(m.ImageData.Platform, best.ImageData.Platform)) {
			best = m
		}
	}
	return best
}

// enginePlatform is the platform that an engine reported.
type enginePlatform struct {
	sdk *client.Client // that the engine was asked with
	ocispec.Platform
}

// ownPlatform returns the engine's own platform, with the highest variant there is.
func (im *images) ownPlatform(ctx context.Context, sdk *client.Client) (ocispec.Platform, error) {
	if known := im.own.Load(); known != nil && known.sdk == sdk {
		return known.Platform, nil
	}
	version, err := sdk.ServerVersion(ctx)
	if err != nil {
		return ocispec.Platform{}, im.conn.Classified(ctx, classify.OpInfo, "", err)
	}
	p := ocispec.Platform{OS: version.Os, Architecture: version.Arch}
	switch p.Architecture {
	case "amd64":
		p.Variant = "v4"
	case "arm":
		p.Variant = "v8"
	}
	im.own.Store(&enginePlatform{sdk, p})
	return p, nil
}
