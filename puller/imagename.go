package puller

import (
	"slices"

	"github.com/distribution/reference"
)

// imageName is a reference or an ID, taken apart.
type imageName struct {
	name   string // the repository in full form, "" of an ID
	tag    string
	digest string // sha256:…
	id     string // sha256:…, of an ID
}

// partsOf takes a reference or an ID apart. Of what is neither, all parts are "".
func partsOf(image string) (n imageName) {
	ref, err := reference.ParseAnyReference(image)
	if err != nil {
		return n
	}
	if d, ok := ref.(reference.Digested); ok {
		n.digest = d.Digest().String()
	}
	named, ok := ref.(reference.Named)
	if !ok {
		return imageName{id: n.digest}
	}
	n.name = named.Name()
	if t, ok := named.(reference.Tagged); ok {
		n.tag = t.Tag()
	}
	return n
}

// inspectRef returns the form of a full reference under which the engine finds
// an image: with a digest, engines store no tag.
func inspectRef(image string) string {
	if n := partsOf(image); n.name != "" && n.digest != "" {
		return n.name + "@" + n.digest
	}
	return image
}

// digests returns the digests that the image has in a repository, each once.
func (i Image) digests(repository string) []string {
	return digestsIn(i.RepoDigests, func(n imageName) bool { return n.name == repository })
}

// allDigests returns the digests that the image has in any repository, each once.
func (i Image) allDigests() []string {
	return digestsIn(i.RepoDigests, func(imageName) bool { return true })
}

func digestsIn(references []string, counts func(imageName) bool) (digests []string) {
	for _, r := range references {
		if n := partsOf(r); n.name != "" && n.digest != "" && counts(n) && !slices.Contains(digests, n.digest) {
			digests = append(digests, n.digest)
		}
	}
	return digests
}

// stands reports whether a digest stands beside a repository. In the containerd
// image store, an image's ID is its digest.
func (i Image) stands(repository, digest string) bool {
	if slices.Contains(i.digests(repository), digest) {
		return true
	}
	return i.ID == digest && slices.ContainsFunc(slices.Concat(i.RepoTags, i.RepoDigests), func(name string) bool {
		return partsOf(name).name == repository
	})
}
