package puller

import (
	"context"
	"strings"

	"github.com/distribution/reference"
)

// prove looks at the engine after a pull whose stream ended well, and returns
// the image only if it is what was asked for. A clean end proves nothing by
// itself: something on the way may have made one of a cut, engines say success
// for the wrong platform, and others move and remove tags meanwhile.
//
// digest is what the stream named, "" where it named none.
func (p *Puller) prove(ctx context.Context, image, platform, digest string) (Image, error) {
	refuse := func(kind Kind, format string, args ...any) error {
		return &Error{Op: "verify", Ref: image, Kind: kind, Err: Errorf(kind, format, args...)}
	}
	found, err := p.engine.Inspect(ctx, inspectRef(image), platform)
	switch {
	case KindOf(err) == NotFound:
		return Image{}, refuse(Truncated, "the engine's stream ended as if all were well, but the image is not there")
	case err != nil:
		return Image{}, err
	}
	if !matchPlatform(found.Platform, platform) {
		return Image{}, refuse(PlatformMismatch, "the engine pulled %s, not %s: the registry has no image for that platform", found.Platform, platform)
	}
	if want := digestOf(image); want != "" && !found.carries(want) {
		return Image{}, refuse(Corrupt, "the image does not carry the digest %s that was asked for", want)
	}
	// The digest that was streamed is that of what was pulled. Where the image
	// does not carry it, the name has meanwhile come to stand for another one.
	if digest != "" && !found.carries(digest) {
		return Image{}, refuse(Corrupt, "the engine announced %s, but the image that is there carries %s", digest, strings.Join(found.RepoDigests, ", "))
	}
	return found, nil
}

// suits reports whether the image is what a reference in full form and a
// platform ask for.
func (i Image) suits(image, platform string) bool {
	digest := digestOf(image)
	return matchPlatform(i.Platform, platform) && (digest == "" || i.carries(digest))
}

// digestOf returns the digest that a reference names, "" where it names none.
func digestOf(image string) string {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return ""
	}
	if d, ok := named.(reference.Digested); ok {
		return d.Digest().String()
	}
	return ""
}

// carries reports whether the image is known by a digest.
func (i Image) carries(digest string) bool {
	if i.ID == digest { // the containerd image store
		return true
	}
	for _, d := range i.RepoDigests {
		if strings.HasSuffix(d, "@"+digest) {
			return true
		}
	}
	return false
}

// inspectRef returns the form of a full reference under which the engine finds
// an image: with a digest, engines store no tag.
func inspectRef(image string) string {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return image
	}
	if d, ok := named.(reference.Digested); ok {
		if canonical, err := reference.WithDigest(reference.TrimNamed(named), d.Digest()); err == nil {
			return canonical.String()
		}
	}
	return image
}

// resultOf describes an image that is there, under the name it was asked for.
func resultOf(found Image, image string) Result {
	r := Result{ImageID: found.ID, Size: found.Size, Source: Present, Digest: digestOf(image)}
	if r.Digest != "" {
		return r
	}
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return r
	}
	for _, d := range found.RepoDigests {
		other, err := reference.ParseNormalizedNamed(d)
		if err != nil || other.Name() != named.Name() {
			continue
		}
		if digested, ok := other.(reference.Digested); ok {
			r.Digest = digested.Digest().String()
		}
	}
	return r
}
