package enginetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/towline/towline/puller"
)

// UseContainerdStore makes the engine answer as Docker does with the containerd image store
// (recorded from Moby's main branch of August 2026): an image's ID is its digest in the
// registry, an index has the platforms that were pulled, and an image is visible as soon as
// its manifest and configuration are there.
func (e *Engine) UseContainerdStore() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.containerd, e.api = true, [2]int{51, 24}
}

// SetContent sets how much of a platform's image the containerd image store has, by
// the digest of its manifest: ContentUnknown is nothing, and ContentPartial its
// manifest and configuration.
func (e *Engine) SetContent(manifest string, c puller.Content) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.content[manifest] = c
}

// targetOf returns the digest of an image in the containerd image store. The caller holds
// the lock, here and below.
func (e *Engine) targetOf(i puller.Image) string {
	if _, ok := e.indexes[i.ID]; !ok && len(i.RepoDigests) > 0 {
		return Digest(i)
	}
	return i.ID
}

// manifestsOf returns the images of an image's target, one for each platform.
func (e *Engine) manifestsOf(i puller.Image) []puller.Image {
	if x, ok := e.indexes[i.ID]; ok {
		return x.Images
	}
	i.Manifest = e.targetOf(i)
	return []puller.Image{i}
}

// contentOf returns how much of an image of manifestsOf is there.
func (e *Engine) contentOf(i puller.Image) puller.Content {
	if c, ok := e.content[i.Manifest]; ok || e.inIndex(i.Manifest) {
		return c
	}
	return puller.ContentWhole
}

func (e *Engine) inIndex(manifest string) bool {
	for _, x := range e.indexes {
		if slices.ContainsFunc(x.Images, func(i puller.Image) bool { return i.Manifest == manifest }) {
			return true
		}
	}
	return false
}

// resolve finds an image by a name, a digest or its ID.
func (e *Engine) resolve(name string) (puller.Image, bool) {
	if i, ok := e.images[name]; ok {
		return i, true
	}
	if i, ok := e.dangling[name]; ok {
		i.RepoTags = nil
		return i, true
	}
	repository, _, digest := "", "", name
	if !strings.HasPrefix(name, "sha256:") {
		repository, _, digest = cutTag(full(name))
	}
	for tag, i := range e.images {
		if other, _, _ := cutTag(tag); digest != "" && e.targetOf(i) == digest && (repository == "" || repository == other) {
			return i, true
		}
	}
	return puller.Image{}, false
}

// answerFromContainerd returns the answer to an inspect, or an error's status and message.
func (e *Engine) answerFromContainerd(name string, q url.Values) (body map[string]any, status int, message string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	image, found := e.resolve(formal(name))
	var platform *ocispec.Platform
	if text := q.Get("platform"); text != "" && e.api[0] >= 49 {
		if err := json.Unmarshal([]byte(text), &platform); err != nil {
			return nil, http.StatusBadRequest, err.Error()
		}
	}
	manifests := q.Get("manifests") != "" && e.api[0] >= 48
	switch {
	case manifests && platform != nil:
		return nil, http.StatusBadRequest, "conflicting options: manifests and platform options cannot both be set"
	case !found:
		return nil, http.StatusNotFound, "No such image: " + name
	}
	target, all := e.targetOf(image), e.manifestsOf(image)
	best := bestOf(all, matcherFor(platform), func(puller.Image) bool { return true })
	if best == nil {
		return nil, http.StatusNotFound, fmt.Sprintf("image with reference %s was found but does not provide the specified platform (%s)", name, platforms.Format(*platform))
	}
	body = map[string]any{"Id": target, "Os": "", "Architecture": "", "Variant": "", "Size": 0, "RootFS": map[string]any{}}
	tags, digests := []string{}, []string{}
	if len(image.RepoTags) > 0 { // else they were removed after the image was found
		tags, digests = e.namesOf(target)
	}
	body["RepoTags"], body["RepoDigests"] = tags, digests
	if platform != nil {
		body["Id"] = best.Manifest
	}
	if e.api[0] >= 48 {
		body["Descriptor"] = map[string]any{"digest": body["Id"], "mediaType": ocispec.MediaTypeImageIndex, "size": 607}
	}
	if e.contentOf(*best) != puller.ContentUnknown { // the configuration can be read
		p := platforms.MustParse(best.Platform)
		body["Os"], body["Architecture"], body["Variant"], body["OsVersion"] = p.OS, p.Architecture, strings.Join(strings.Split(best.Platform, "/")[2:], ""), best.OSVersion
		body["Size"], body["RootFS"] = best.Size, map[string]any{"Type": "layers", "Layers": best.DiffIDs}
	}
	if manifests {
		body["Manifests"] = e.summaries(image)
	}
	return body, http.StatusOK, ""
}

// formal returns a name in full form. An ID stays as it is.
func formal(name string) string {
	if strings.HasPrefix(name, "sha256:") {
		return name
	}
	return full(name)
}

// namesOf returns a target's names.
func (e *Engine) namesOf(target string) (tags, digests []string) {
	for name, i := range e.images {
		if e.targetOf(i) != target {
			continue
		}
		repository, _, digest := cutTag(name)
		tags = append(tags, name)
		if digest == "" {
			name = repository + "@" + target
		}
		digests = append(digests, name)
	}
	slices.Sort(tags)
	slices.Sort(digests)
	return slices.Compact(tags), slices.Compact(digests)
}

// summaries returns the summaries of an image's manifests.
func (e *Engine) summaries(image puller.Image) (all []any) {
	for _, i := range e.manifestsOf(image) {
		p := platforms.MustParse(i.Platform)
		size := map[string]any{"Content": 0, "Total": 0}
		if c := e.contentOf(i); c != puller.ContentUnknown {
			size["Content"], size["Total"] = i.Size/2, i.Size
		}
		all = append(all, map[string]any{
			"ID": i.Manifest, "Available": e.contentOf(i) == puller.ContentWhole, "Kind": "image", "Size": size,
			"Descriptor": map[string]any{"digest": i.Manifest, "mediaType": ocispec.MediaTypeImageManifest, "size": 737},
			"ImageData":  map[string]any{"Platform": p, "Containers": nil, "Size": map[string]any{"Unpacked": i.Size - i.Size/2}},
		})
	}
	return all
}

// host is the engine's own platform.
var host = platforms.MustParse("linux/amd64/v3")

// preferHost matches all platforms, those of the host first.
type preferHost struct{ platforms.MatchComparer }

func (preferHost) Match(ocispec.Platform) bool { return true }

func matcherFor(platform *ocispec.Platform) platforms.MatchComparer {
	if platform == nil {
		return preferHost{platforms.Only(host)}
	}
	return platforms.OnlyStrict(*platform)
}

func bestOf(all []puller.Image, matcher platforms.MatchComparer, among func(puller.Image) bool) (best *puller.Image) {
	for n := range all {
		i := &all[n]
		if among(*i) && matcher.Match(platforms.MustParse(i.Platform)) &&
			(best == nil || matcher.Less(platforms.MustParse(i.Platform), platforms.MustParse(best.Platform))) {
			best = i
		}
	}
	return best
}

// imageForContainer finds the image that a container is asked of, and refuses where
// there is none.
func (e *Engine) imageForContainer(asked ContainerRequest) (target, manifest string, status int, message string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	missing := "No such image: " + asked.Image
	if !e.containerd {
		for _, i := range e.images {
			if i.ID == asked.Image {
				return i.ID, "", 0, ""
			}
		}
		return "", "", http.StatusNotFound, missing
	}
	image, found := e.resolve(asked.Image)
	if !found {
		return "", "", http.StatusNotFound, missing
	}
	var platform *ocispec.Platform
	if asked.Platform != "" {
		p := platforms.MustParse(asked.Platform)
		platform = &p
	}
	best := bestOf(e.manifestsOf(image), matcherFor(platform), func(i puller.Image) bool { return e.contentOf(i) != puller.ContentUnknown })
	switch {
	case best == nil:
		return "", "", http.StatusNotFound, "image with reference " + asked.Image + " was found but does not provide the specified platform (" + asked.Platform + ")"
	case e.contentOf(*best) != puller.ContentWhole:
		return "", "", http.StatusInternalServerError, `apply layer error for "": failed to extract layer ` + best.DiffIDs[0] +
			": NotFound: failed to get reader from content store: content digest sha256:" + strings.Repeat("b", 64) + ": not found"
	}
	return e.targetOf(image), best.Manifest, 0, ""
}
