package puller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// wanted is what an image is to be.
type wanted struct {
	image    string // a reference in full form, or an ID
	platform string // os/arch[/variant]; "" for any
}

// absence returns nil if an image that the engine showed is what is wanted, by all
// that can be known without a registry, and else what speaks against it.
func (p *Puller) absence(i Image, w wanted) error {
	_, err := p.verdict(i, w, nil)
	return err
}

// has reports whether an image is what the repository has under a digest.
func (p *Puller) has(i Image, w wanted, digest string) bool {
	known, _ := p.proofs.get(i.ID, w)
	return digest != "" && (known == digest || i.HasDigest(ParseName(w.image).Repository, digest))
}

// verdict is the one place that says what an image must show to be what is wanted:
// an ID, the name, the digest, the platform, all of its content. end is what a pull's
// stream told, nil where there was no pull. The error is nil if the image is proven;
// with open, the engine shows too little, and confirm can prove it.
func (p *Puller) verdict(i Image, w wanted, end *ending) (open bool, err error) {
	at, announced := ParseName(w.image), ""
	if end != nil {
		announced = end.digest
	}
	switch {
	case i.ID == "":
		return false, Errorf(ErrInternal, "the engine's answer has no image ID")
	case at.ID != "" && i.ID != at.ID && !slices.Contains(i.AllDigests(), at.ID):
		return false, Errorf(ErrNotFound, "the engine shows the image %s instead of %s", Clip(i.ID), at.ID)
	case at.Digest != "" && !i.HasDigest(at.Repository, at.Digest):
		if others := i.Digests(at.Repository); len(others) > 0 {
			return false, Errorf(ErrCorrupt, "the engine has %s under the digest %s, not under %s", at.Repository, Listed(others), at.Digest)
		}
		return false, Errorf(ErrNotFound, "the engine has the digest %s only under other names than %s", at.Digest, at.Repository)
	case at.Digest != "" && announced != "" && announced != at.Digest:
		return false, Errorf(ErrCorrupt, "the engine announced the digest %s, not %s, which was asked for", announced, at.Digest)
	case at.ID == "" && at.Digest == "" && !slices.ContainsFunc(i.RepoTags, func(t string) bool { n := ParseName(t); return n.Repository == at.Repository && n.Tag == at.Tag }):
		return false, Errorf(ErrNotFound, "the image that the engine shows does not have the name %s", w.image)
	}
	if !MatchPlatform(i.Platform, w.platform) {
		may := i.Content == ContentWhole && MayMatchPlatform(i.Platform, w.platform) || i.Content == ContentUnknown && end != nil
		if _, seen := p.proofs.get(i.ID, w); !may || !seen {
			return may, Errorf(ErrPlatformMismatch, "the engine has it for %s, not %s", told(i.Platform), w.platform)
		}
	}
	switch {
	case i.Content == ContentPartial && w.platform != "":
		return false, Errorf(ErrNotFound, "the engine does not have all of its content for %s", w.platform)
	case i.Content == ContentPartial:
		return false, Errorf(ErrNotFound, "the engine does not have all of its content for the engine's own platform")
	case i.Content == ContentUnknown && end == nil: // else the engine's pull decides
		return false, Errorf(ErrNotFound, "the engine can't tell whether all of its content is there; it can from API version 1.48 on")
	}
	if announced == "" || p.has(i, w, announced) {
		return false, nil
	}
	// A graph driver leaves the digest of an index with the platform that was pulled
	// first, and shows it with no other one.
	if others := i.Digests(at.Repository); len(others) > 0 {
		return true, Errorf(ErrCorrupt, "the engine announced the digest %s, but the image that is there has %s", announced, Listed(others))
	}
	return true, Errorf(ErrTruncated, "the engine announced the digest %s, but shows the image that is there without a digest of %s: it is unproven", announced, at.Repository)
}

// confirm asks the registry what it has for the platform, under the digest that was
// announced if there is one, and returns its digest if that is the image which the
// engine showed. If the registry can't be asked, doubt remains.
func (p *Puller) confirm(ctx context.Context, i Image, w wanted, announced string, c Credentials, doubt error) (string, error) {
	m, err := p.manifestOf(ctx, i, w, announced, c)
	switch {
	case errors.Is(err, errNoRegistry):
		return "", doubt
	case err != nil:
		kind := KindOf(doubt)
		if KindOf(err).Retryable() || ctx.Err() != nil {
			kind = KindOf(err)
		}
		return "", &Error{Kind: kind, RetryAfter: RetryAfterOf(err), Err: fmt.Errorf("%w; the registry could not be asked which image that is: %w", doubt, err)}
	}
	same := i.ID == m.Config || i.ID == m.Image || i.Manifest != "" && i.Manifest == m.Image ||
		i.ID == m.Digest && (i.Content == ContentUnknown || slices.Equal(i.DiffIDs, m.DiffIDs))
	switch {
	case !MatchPlatform(m.Platform, w.platform):
		return "", Errorf(ErrPlatformMismatch, "%w; the registry has it for %s", doubt, told(m.Platform))
	case !same && KindOf(doubt) == ErrPlatformMismatch:
		return "", Errorf(ErrPlatformMismatch, "%w; the registry has another image for it", doubt)
	case !same:
		return "", Errorf(ErrCorrupt, "%w; the registry has another image for the platform %s", doubt, told(m.Platform))
	}
	return m.Digest, nil
}

// manifestOf asks the registry for the image that an engine pulled, by the digest that
// it announced, if it did.
func (p *Puller) manifestOf(ctx context.Context, i Image, w wanted, announced string, c Credentials) (Manifest, error) {
	r := PullRequest{Image: w.image, Platform: w.platform, Credentials: c}
	if announced != "" {
		r.Image = ParseName(w.image).Repository + "@" + announced
	}
	return p.manifest(ctx, r, i.Platform, i.OSVersion, false)
}

// told names a platform in a message.
func told(platform string) string {
	if strings.Trim(platform, "/") == "" {
		return "a platform that it does not tell"
	}
	return Clip(platform)
}
