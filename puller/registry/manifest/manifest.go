// Package manifest reads the manifests and configurations of images as far as Towline needs to
// know them, and says what is wrong with those that are no image's.
package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
)

// Limits of an image. Engines stack at most 127 layers.
const (
	maxLayers = 500
	maxIndex  = 1000
	MaxBytes  = 1 << 50 // of all layers
)

// Manifest is an index or an image, with the fields that Towline uses. It does not change
// once it is complete.
type Manifest struct {
	Index []Entry // nil for an image
	// Image has what the manifest itself says. ParseConfig adds the rest.
	Image puller.Manifest
}

// Entry is an image in an index.
type Entry struct {
	Platform string // "" where the index does not say
	Version  string // of the operating system, "" where the index does not say
	Digest   v1.Hash
}

// raw is a manifest of any kind. Its kind follows from its fields: the media type
// that a registry sends with it can be wrong.
type raw struct {
	SchemaVersion int             `json:"schemaVersion"`
	ArtifactType  string          `json:"artifactType"`
	Manifests     []v1.Descriptor `json:"manifests"`
	Config        *v1.Descriptor  `json:"config"`
	Layers        []v1.Descriptor `json:"layers"`
}

// NotImageError is an error about valid content that is no image.
type NotImageError struct{ Err error }

// Error implements error.
func (e NotImageError) Error() string { return e.Err.Error() }

// configTypes are the media types of an image's configuration: Docker's, OCI's, and those
// of old tools, which engines also accept (moby, distribution.ImageTypes).
var configTypes = []types.MediaType{
	types.DockerConfigJSON, types.OCIConfigJSON, "application/octet-stream", "application/json", "text/html", "",
}

// Parse parses a manifest. config is where an image's configuration is, which ParseConfig
// adds; nil for an index.
func Parse(body []byte) (m Manifest, config *v1.Descriptor, err error) {
	var r raw
	if err := json.Unmarshal(body, &r); err != nil {
		if bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")) {
			return m, nil, NotImageError{Err: errors.New("it is a page of HTML, and no image")}
		}
		return m, nil, fmt.Errorf("its manifest is garbled: %w", err)
	}
	switch {
	case r.SchemaVersion == 1:
		return m, nil, NotImageError{Err: errors.New("it is an image of manifest schema 1, which has no sizes; push it again")}
	case r.Manifests != nil && (r.Config != nil || r.Layers != nil):
		return m, nil, errors.New("its manifest is both an index and an image")
	case r.Manifests != nil:
		m.Index, err = parseIndex(r.Manifests)
		return m, nil, err
	case r.Config == nil:
		return m, nil, NotImageError{Err: errors.New("it is neither an image nor an index of images")}
	case !slices.Contains(configTypes, r.Config.MediaType):
		return m, nil, NotImageError{Err: fmt.Errorf("it is no image, but an artifact of type %q", r.Config.MediaType)}
	case r.Config.Digest == (v1.Hash{}):
		return m, nil, errors.New("its configuration has no digest")
	}
	m.Image.Config = r.Config.Digest.String()
	m.Image.Zstd = slices.ContainsFunc(r.Layers, func(l v1.Descriptor) bool { return strings.HasSuffix(string(l.MediaType), "+zstd") })
	m.Image.Layers, err = parseLayers(r.Layers)
	return m, r.Config, err
}

func parseLayers(layers []v1.Descriptor) ([]puller.Blob, error) {
	if len(layers) > maxLayers {
		return nil, fmt.Errorf("it has %d layers; the limit is %d", len(layers), maxLayers)
	}
	blobs := make([]puller.Blob, len(layers))
	left := int64(MaxBytes)
	for i, l := range layers {
		switch {
		case l.Digest == (v1.Hash{}):
			return nil, fmt.Errorf("its layer %d has no digest", i)
		case l.Size < 0:
			return nil, fmt.Errorf("its layer %d has a size of %d bytes", i, l.Size)
		case l.Size > left:
			return nil, fmt.Errorf("its layers up to %d have more than 1 PiB", i)
		}
		left -= l.Size
		blobs[i] = puller.Blob{Digest: l.Digest.String(), Size: l.Size}
	}
	return blobs, nil
}

// platforms are safe to print.
var platforms = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,32}(/[a-zA-Z0-9._-]{1,32}){1,2}$`)

func parseIndex(manifests []v1.Descriptor) ([]Entry, error) {
	if len(manifests) > maxIndex {
		return nil, fmt.Errorf("it is an index of %d manifests; the limit is %d", len(manifests), maxIndex)
	}
	entries := []Entry{}
	for i, m := range manifests {
		if m.Digest == (v1.Hash{}) {
			return nil, fmt.Errorf("entry %d of its index has no digest", i)
		}
		e := Entry{Digest: m.Digest}
		if p := m.Platform; p != nil && p.OS+p.Architecture != "" {
			e.Platform, e.Version = platformOf(p.OS, p.Architecture, p.Variant), p.OSVersion
			// Attestations have the platform unknown/unknown.
			if p.OS == "unknown" || !platforms.MatchString(e.Platform) {
				continue
			}
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func platformOf(os, architecture, variant string) string {
	return strings.TrimSuffix(os+"/"+architecture+"/"+variant, "/")
}

// ParseConfig adds the fields of an image's configuration.
func (m *Manifest) ParseConfig(body []byte) error {
	var c struct {
		OS           string `json:"os"`
		Architecture string `json:"architecture"`
		Variant      string `json:"variant"`
		RootFS       struct {
			DiffIDs []v1.Hash `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(body, &c); err != nil {
		return fmt.Errorf("its configuration is garbled: %w", err)
	}
	if layers, contents := len(m.Image.Layers), len(c.RootFS.DiffIDs); layers != contents {
		return fmt.Errorf("it has %d layers, but its configuration lists %d", layers, contents)
	}
	if c.OS == "" {
		c.OS = "linux" // engines' default
	}
	if platform := platformOf(c.OS, c.Architecture, c.Variant); platforms.MatchString(platform) {
		m.Image.Platform = platform
	}
	m.Image.DiffIDs = make([]string, len(c.RootFS.DiffIDs))
	for i, id := range c.RootFS.DiffIDs {
		m.Image.DiffIDs[i] = id.String()
	}
	return nil
}

// Choose returns an index's image for a platform. Where there are several, it returns the
// one for the operating system's version, or else the first.
func (m Manifest) Choose(platform, version string) (Entry, error) {
	offered := make([]string, len(m.Index))
	for i, e := range m.Index {
		offered[i] = e.Platform
	}
	if i := names.ChoosePlatform(offered, platform); i >= 0 {
		for _, e := range m.Index {
			if version != "" && e.Platform == offered[i] && build(e.Version) == build(version) {
				return e, nil
			}
		}
		return m.Index[i], nil
	}
	// The only image is chosen even without a platform.
	if len(offered) == 1 && offered[0] == "" {
		return m.Index[0], nil
	}
	slices.Sort(offered)
	offered = slices.DeleteFunc(slices.Compact(offered), func(platform string) bool { return platform == "" })
	const maxOffered = 20
	if more := len(offered) - maxOffered; more > 0 {
		offered = append(offered[:maxOffered], fmt.Sprintf("%d more", more))
	}
	if platform == "" {
		platform = "a platform that is not named"
	}
	if len(offered) == 0 {
		return Entry{}, fmt.Errorf("it has images for no platform at all, and not for %s", platform)
	}
	return Entry{}, fmt.Errorf("it has images for %s, and not for %s", strings.Join(offered, ", "), platform)
}

// build returns the part of a Windows version that the system and its images have in
// common: 10.0.20348 of 10.0.20348.2700. The rest counts patches.
func build(version string) string {
	parts := strings.SplitN(version, ".", 4)
	return strings.Join(parts[:min(len(parts), 3)], ".")
}
