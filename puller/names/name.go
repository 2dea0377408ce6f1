// Package names reads the names of images, registries and platforms.
package names

import (
	"strings"

	"github.com/distribution/reference"
)

// Name is a reference or an ID, taken apart.
type Name struct {
	Repository string // the repository in full form, "" of an ID
	Tag        string
	Digest     string // sha256:…
	ID         string // sha256:…, of an ID
}

// ParseName takes a reference or an ID apart. Of what is neither, all parts are "".
func ParseName(image string) (n Name) {
	ref, err := reference.ParseAnyReference(image)
	if err != nil {
		return n
	}
	if d, ok := ref.(reference.Digested); ok {
		n.Digest = d.Digest().String()
	}
	named, ok := ref.(reference.Named)
	if !ok {
		return Name{ID: n.Digest}
	}
	n.Repository = named.Name()
	if t, ok := named.(reference.Tagged); ok {
		n.Tag = t.Tag()
	}
	return n
}

// EngineRef returns the form of a full reference under which the engine finds
// an image: with a digest, engines store no tag.
func EngineRef(image string) string {
	if !strings.Contains(image, "@") {
		return image // without the cost of ParseName
	}
	if n := ParseName(image); n.Repository != "" && n.Digest != "" {
		return n.Repository + "@" + n.Digest
	}
	return image
}
