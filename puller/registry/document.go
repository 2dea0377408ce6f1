package registry

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

// Limits of what is taken for an image. Engines stack at most 127 layers.
const (
	maxLayers = 500
	maxOffers = 1000
	maxBytes  = 1 << 50 // of all layers
)

// document is a manifest as far as it is of interest: an index that offers
// images, or an image. It is not changed once it is read.
type document struct {
	offers []offer // of an index, else nil
	image  puller.Manifest
}

// offer is an image in an index.
type offer struct {
	platform string // "" where the index does not say
	version  string // of the operating system, "" where the index does not say
	digest   v1.Hash
}

// raw is any of the manifests that registries have. Which one it is follows
// from what is in it: the types that registries send with them can be wrong.
type raw struct {
	SchemaVersion int             `json:"schemaVersion"`
	ArtifactType  string          `json:"artifactType"`
	Manifests     []v1.Descriptor `json:"manifests"`
	Config        *v1.Descriptor  `json:"config"`
	Layers        []v1.Descriptor `json:"layers"`
}

// noImage is an error about something that is well made, but no image.
type noImage struct{ error }

// configTypes are the types of an image's configuration: Docker's and OCI's,
// and what engines take for them since old tools sent it (moby,
// distribution.ImageTypes).
var configTypes = []types.MediaType{
	types.DockerConfigJSON, types.OCIConfigJSON, "application/octet-stream", "application/json", "text/html", "",
}

// readManifest reads a manifest. What is in an image's configuration is still
// missing then; config says where that is.
func readManifest(body []byte) (d document, config *v1.Descriptor, err error) {
	var m raw
	if err := json.Unmarshal(body, &m); err != nil {
		if bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")) {
			return d, nil, noImage{errors.New("what is there is a page of HTML, which is no image")}
		}
		return d, nil, fmt.Errorf("its manifest is garbled: %w", err)
	}
	switch {
	case m.SchemaVersion == 1:
		return d, nil, noImage{errors.New("it is an image of manifest schema 1, which tells no sizes; push it anew")}
	case m.Manifests != nil && (m.Config != nil || m.Layers != nil):
		return d, nil, errors.New("its manifest is both an index and an image")
	case m.Manifests != nil:
		d.offers, err = readOffers(m.Manifests)
		return d, nil, err
	case m.Config == nil:
		return d, nil, noImage{errors.New("it is neither an image nor an index of images")}
	case !slices.Contains(configTypes, m.Config.MediaType):
		return d, nil, noImage{fmt.Errorf("it is no image, but an artifact of type %q", m.Config.MediaType)}
	case m.Config.Digest == (v1.Hash{}):
		return d, nil, errors.New("its configuration has no digest")
	}
	d.image.Config = m.Config.Digest.String()
	d.image.Zstd = slices.ContainsFunc(m.Layers, func(l v1.Descriptor) bool { return strings.HasSuffix(string(l.MediaType), "+zstd") })
	d.image.Layers, err = readLayers(m.Layers)
	return d, m.Config, err
}

func readLayers(layers []v1.Descriptor) ([]puller.Blob, error) {
	if len(layers) > maxLayers {
		return nil, fmt.Errorf("it has %d layers; at most %d are taken", len(layers), maxLayers)
	}
	blobs := make([]puller.Blob, len(layers))
	left := int64(maxBytes)
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

// platforms that can be told on without harm.
var platforms = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,32}(/[a-zA-Z0-9._-]{1,32}){1,2}$`)

func readOffers(manifests []v1.Descriptor) ([]offer, error) {
	if len(manifests) > maxOffers {
		return nil, fmt.Errorf("it is an index of %d manifests; at most %d are taken", len(manifests), maxOffers)
	}
	offers := []offer{}
	for i, m := range manifests {
		if m.Digest == (v1.Hash{}) {
			return nil, fmt.Errorf("entry %d of its index has no digest", i)
		}
		o := offer{digest: m.Digest}
		if p := m.Platform; p != nil && p.OS+p.Architecture != "" {
			o.platform, o.version = platformOf(p.OS, p.Architecture, p.Variant), p.OSVersion
			// Attestations are in the index as unknown/unknown.
			if p.OS == "unknown" || !platforms.MatchString(o.platform) {
				continue
			}
		}
		offers = append(offers, o)
	}
	return offers, nil
}

func platformOf(os, architecture, variant string) string {
	return strings.TrimSuffix(os+"/"+architecture+"/"+variant, "/")
}

// readConfig fills in what an image's configuration tells.
func (d *document) readConfig(body []byte) error {
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
	if layers, contents := len(d.image.Layers), len(c.RootFS.DiffIDs); layers != contents {
		return fmt.Errorf("it has %d layers, but its configuration tells of %d", layers, contents)
	}
	if c.OS == "" {
		c.OS = "linux" // as engines have it
	}
	if platform := platformOf(c.OS, c.Architecture, c.Variant); platforms.MatchString(platform) {
		d.image.Platform = platform
	}
	d.image.DiffIDs = make([]string, len(c.RootFS.DiffIDs))
	for i, id := range c.RootFS.DiffIDs {
		d.image.DiffIDs[i] = id.String()
	}
	return nil
}

// choose returns the image for a platform. Of several for one, it is the one for
// the build of the operating system that version names, or else the first.
func (d document) choose(platform, version string) (offer, error) {
	offers := make([]string, len(d.offers))
	for i, o := range d.offers {
		offers[i] = o.platform
	}
	if i := names.ChoosePlatform(offers, platform); i >= 0 {
		for _, o := range d.offers {
			if version != "" && o.platform == offers[i] && build(o.version) == build(version) {
				return o, nil
			}
		}
		return d.offers[i], nil
	}
	// One that does not say is taken if there is no choice.
	if len(offers) == 1 && offers[0] == "" {
		return d.offers[0], nil
	}
	slices.Sort(offers)
	offers = slices.DeleteFunc(slices.Compact(offers), func(o string) bool { return o == "" })
	const told = 20
	if more := len(offers) - told; more > 0 {
		offers = append(offers[:told], fmt.Sprintf("%d more", more))
	}
	if platform == "" {
		platform = "a platform that is not named"
	}
	if len(offers) == 0 {
		return offer{}, fmt.Errorf("it is there for no platform at all, and not for %s", platform)
	}
	return offer{}, fmt.Errorf("it is there for %s, and not for %s", strings.Join(offers, ", "), platform)
}

// build returns what a version of Windows and the images for it have in common:
// 10.0.20348 of 10.0.20348.2700. The rest counts patches.
func build(version string) string {
	parts := strings.SplitN(version, ".", 4)
	return strings.Join(parts[:min(len(parts), 3)], ".")
}
