package enginetest

import (
	"strings"

	"github.com/towline/towline/puller"
)

// UsePodman makes the engine answer as Podman does: it reports that it is Podman, finds
// NAME@DIGEST by the digest alone, and reports no variant of an image.
func (e *Engine) UsePodman() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.podman = true
}

// byDigest returns an image that has a digest under any name. The lock is held.
func (e *Engine) byDigest(digest string) (puller.Image, bool) {
	for _, i := range e.images {
		for _, d := range i.RepoDigests {
			if _, _, other := cutTag(d); other == digest {
				return i, true
			}
		}
	}
	return puller.Image{}, false
}

// ServeAsPodman is Serve with Podman's messages (recorded from 4.3): no digest, no status,
// and two last lines with the image's ID. The first of them is about its configuration.
func ServeAsPodman(i puller.Image) Script {
	return func(p *Pull) {
		config := strings.TrimPrefix(i.ID, "sha256:")[:12]
		for _, id := range []string{"aaaaaaaaaaaa", "bbbbbbbbbbbb", config} {
			p.Line(`{"status":"Pulling fs layer","progressDetail":{},"id":"` + id + `"}`)
			p.Line(`{"status":"Download complete","progressDetail":{},"id":"` + id + `"}`)
		}
		p.Tag(i)
		p.Line(`{"status":"Download complete","progressDetail":{},"id":"` + config + `"}`)
	}
}
