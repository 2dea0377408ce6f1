package images

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
)

// Limits of a manifest. Engines stack at most 127 layers.
const (
	maxBlobs    = 500
	maxChildren = 1000
	maxBytes    = 1 << 50 // of all layers
)

// document is what a manifest lists: the images of an index, or the blobs of an image.
type document struct {
	children []child
	blobs    []puller.Blob // the configuration, then the layers from the base up
}

// child is a manifest that an index lists.
type child struct{ digest, platform string }

// size is the sum of an image's blobs, in bytes.
func (d document) size() (n int64) {
	for _, b := range d.blobs {
		n += b.Size
	}
	return n
}

// parse reads a manifest as far as it says what to fetch. What it is, the engine
// decides when it reads it.
func parse(body []byte) (d document, err error) {
	type descriptor struct {
		Digest   digest.Digest `json:"digest"`
		Size     int64         `json:"size"`
		Platform *struct {
			OS, Architecture, Variant string
		} `json:"platform"`
	}
	var raw struct {
		Manifests []descriptor `json:"manifests"`
		Config    *descriptor  `json:"config"`
		Layers    []descriptor `json:"layers"`
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		return d, fmt.Errorf("its manifest is no JSON: %w", err)
	}
	if raw.Config == nil && raw.Manifests == nil {
		return d, errors.New("its manifest is neither an index nor an image")
	}
	if len(raw.Manifests) > maxChildren || len(raw.Layers) > maxBlobs {
		return d, errors.New("its manifest lists more than engines take")
	}
	for _, m := range raw.Manifests {
		if m.Digest.Validate() != nil {
			return d, errors.New("its index lists a manifest without a digest")
		}
		c := child{digest: m.Digest.String()}
		if p := m.Platform; p != nil && p.OS != "unknown" { // attestations are for unknown/unknown
			c.platform = p.OS + "/" + p.Architecture
			if p.Variant != "" {
				c.platform += "/" + p.Variant
			}
		}
		d.children = append(d.children, c)
	}
	if raw.Config == nil {
		return d, nil
	}
	left := int64(maxBytes)
	for _, b := range append([]descriptor{*raw.Config}, raw.Layers...) {
		if b.Digest.Validate() != nil || b.Size < 0 || b.Size > left {
			return d, errors.New("its manifest lists a blob without a digest or without a size")
		}
		left -= b.Size
		d.blobs = append(d.blobs, puller.Blob{Digest: b.Digest.String(), Size: b.Size})
	}
	return d, nil
}

// choose returns the digest of an index's image for a platform, "" for none.
func (d document) choose(platform string) string {
	offered := make([]string, len(d.children))
	for i, c := range d.children {
		offered[i] = c.platform
	}
	if i := names.ChoosePlatform(offered, platform); i >= 0 {
		return d.children[i].digest
	}
	return ""
}

// lists reports whether an index lists a manifest.
func (d document) lists(digest string) bool {
	return slices.ContainsFunc(d.children, func(c child) bool { return c.digest == digest })
}

// has reports whether an image has a blob.
func (d document) has(digest string) bool {
	return slices.ContainsFunc(d.blobs, func(b puller.Blob) bool { return b.Digest == digest })
}

// ShortID is how engines name a layer in the messages of a pull: the first twelve
// digits of its digest.
func ShortID(of string) string {
	encoded := digest.Digest(of).Encoded()
	return encoded[:min(len(encoded), 12)]
}
