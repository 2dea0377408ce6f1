package puller

import (
	"slices"

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
	if n := ParseName(image); n.Repository != "" && n.Digest != "" {
		return n.Repository + "@" + n.Digest
	}
	return image
}

// Digests returns the digests that the image has in a repository, each once.
func (i Image) Digests(repository string) []string {
	return digestsIn(i.RepoDigests, func(n Name) bool { return n.Repository == repository })
}

// AllDigests returns the digests that the image has in any repository, each once.
func (i Image) AllDigests() []string {
	return digestsIn(i.RepoDigests, func(Name) bool { return true })
}

func digestsIn(references []string, counts func(Name) bool) (digests []string) {
	for _, r := range references {
		if n := ParseName(r); n.Repository != "" && n.Digest != "" && counts(n) && !slices.Contains(digests, n.Digest) {
			digests = append(digests, n.Digest)
		}
	}
	return digests
}

// HasDigest reports whether a digest stands beside a repository. In the containerd
// image store, an image's ID is its digest.
func (i Image) HasDigest(repository, digest string) bool {
	if slices.Contains(i.Digests(repository), digest) {
		return true
	}
	return i.ID == digest && slices.ContainsFunc(slices.Concat(i.RepoTags, i.RepoDigests), func(name string) bool {
		return ParseName(name).Repository == repository
	})
}
