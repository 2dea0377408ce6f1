package enginetest

import (
	"fmt"
	"net/http"

	"github.com/containerd/platforms"

	"github.com/towline/towline/puller"
)

// Index is an image of several platforms under one digest.
type Index struct {
	Digest string
	// Images has one image per platform. Its ID is the digest of its configuration.
	Images []puller.Image
}

// NewIndex returns an index of a registry, with an image for each platform. Indexes with
// different seeds have nothing in common.
func NewIndex(image string, seed int, platforms ...string) Index {
	x := Index{Digest: fmt.Sprintf("sha256:1%063x", seed)}
	name, _, _ := cutTag(full(image))
	for n, platform := range platforms {
		i := NewImage(image, 1000*seed+n)
		i.Platform, i.Manifest, i.RepoDigests = platform, Digest(i), []string{name + "@" + x.Digest}
		x.Images = append(x.Images, i)
	}
	return x
}

// For returns the index's image for a platform. "" is the engine's own.
func (x Index) For(platform string) *puller.Image {
	matcher := platforms.Only(host)
	if platform != "" {
		matcher = platforms.Only(platforms.MustParse(platform))
	}
	return bestOf(x.Images, matcher, func(puller.Image) bool { return true })
}

// ServeIndex is a successful pull of an index by a tag or its digest, or of one of its
// manifests by the manifest's digest.
func ServeIndex(x Index) Script {
	return func(p *Pull) {
		image, digest := p.ofIndex(x)
		if image == nil {
			p.Refuse(http.StatusNotFound, fmt.Sprintf("no matching manifest for %s in the manifest list entries: no match for platform in manifest: not found", p.Platform))
			return
		}
		p.Line(`{"status":"Pulling from index","id":"v1"}`)
		p.Line(`{"status":"Pulling fs layer","progressDetail":{},"id":"aaaaaaaaaaaa"}`)
		p.Line(`{"status":"Pull complete","progressDetail":{},"id":"aaaaaaaaaaaa"}`)
		p.keep(x, *image, digest)
		p.Line(`{"status":"Digest: ` + digest + `"}`)
		p.Line(`{"status":"Status: Downloaded newer image for ` + p.Image + `"}`)
	}
}

// CutIndex is a pull of an index that is cut between a platform's configuration and its
// layers. The containerd image store keeps the configuration.
func CutIndex(x Index) Script {
	return func(p *Pull) {
		image, _ := p.ofIndex(x)
		p.Line(`{"status":"Pulling from index","id":"v1"}`)
		p.Line(`{"status":"Pulling fs layer","progressDetail":{},"id":"aaaaaaaaaaaa"}`)
		p.engine.SetContent(image.Manifest, puller.ContentPartial)
		p.Cut()
	}
}

// ofIndex returns the image of an index that is pulled, and the digest for the stream.
func (p *Pull) ofIndex(x Index) (image *puller.Image, digest string) {
	_, _, asked := cutTag(p.Image)
	for n := range x.Images {
		if i := &x.Images[n]; i.Manifest == asked {
			return i, asked
		}
	}
	return x.For(p.Platform), x.Digest
}

// keep adds an image of an index to the engine's store, under a digest.
func (p *Pull) keep(x Index, i puller.Image, digest string) {
	name, _, _ := cutTag(p.Image)
	e := p.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	manifest := i.Manifest
	switch {
	case digest == manifest: // pulled by its own digest
		i.RepoDigests = []string{name + "@" + digest}
	case e.containerd:
		e.indexes[x.Digest] = x
		i.ID = x.Digest
	default:
		// A graph driver keeps the digest with the first platform.
		for _, other := range e.images {
			if other.ID != i.ID && len(other.RepoDigests) > 0 && Digest(other) == digest {
				i.RepoDigests = nil
			}
		}
	}
	i.Manifest = ""
	e.content[manifest] = puller.ContentWhole
	e.name(p.Image, i)
	e.events.add("image", "pull", p.Image, p.Image)
}
