package puller

import (
	"slices"

	"github.com/towline/towline/puller/names"
)

// Digests returns the digests that the image has in a repository, each once.
func (i Image) Digests(repository string) []string {
	return digestsIn(i.RepoDigests, func(n names.Name) bool { return n.Repository == repository })
}

// AllDigests returns the digests that the image has in any repository, each once.
func (i Image) AllDigests() []string {
	return digestsIn(i.RepoDigests, func(names.Name) bool { return true })
}

func digestsIn(references []string, counts func(names.Name) bool) (digests []string) {
	for _, r := range references {
		if n := names.ParseName(r); n.Repository != "" && n.Digest != "" && counts(n) && !slices.Contains(digests, n.Digest) {
			digests = append(digests, n.Digest)
		}
	}
	return digests
}

// HasDigest reports whether the image has a digest in a repository. In the containerd
// image store, an image's ID is its digest.
func (i Image) HasDigest(repository, digest string) bool {
	if slices.Contains(i.Digests(repository), digest) {
		return true
	}
	return i.ID == digest && slices.ContainsFunc(slices.Concat(i.RepoTags, i.RepoDigests), func(name string) bool {
		return names.ParseName(name).Repository == repository
	})
}
