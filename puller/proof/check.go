package proof

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
)

// verdict is the one place that says what an image must show to be what is wanted:
// an ID, the name, the digest, the platform, all of its content. end is what a pull's
// stream told, nil where there was no pull. The error is nil if the image is proven;
// with open, the engine shows too little, and confirm can prove it.
func (p *Prover) verdict(i puller.Image, w Wanted, end *Ending) (open bool, err error) {
	at, announced := names.ParseName(w.Image), ""
	if end != nil {
		announced = end.digest
	}
	switch {
	case i.ID == "":
		return false, puller.Errorf(puller.ErrInternal, "the engine's answer has no image ID")
	case at.ID != "" && i.ID != at.ID && !slices.Contains(i.AllDigests(), at.ID):
		return false, puller.Errorf(puller.ErrNotFound, "the engine shows the image %s instead of %s", puller.Clip(i.ID), at.ID)
	case at.Digest != "" && !i.HasDigest(at.Repository, at.Digest):
		if others := i.Digests(at.Repository); len(others) > 0 {
			return false, puller.Errorf(puller.ErrCorrupt, "the engine has %s under the digest %s, not under %s", at.Repository, puller.Listed(others), at.Digest)
		}
		return false, puller.Errorf(puller.ErrNotFound, "the engine has the digest %s only under other names than %s", at.Digest, at.Repository)
	case at.Digest != "" && announced != "" && announced != at.Digest:
		return false, puller.Errorf(puller.ErrCorrupt, "the engine announced the digest %s, not %s, which was asked for", announced, at.Digest)
	case at.ID == "" && at.Digest == "" && !slices.ContainsFunc(i.RepoTags, func(t string) bool { n := names.ParseName(t); return n.Repository == at.Repository && n.Tag == at.Tag }):
		return false, puller.Errorf(puller.ErrNotFound, "the image that the engine shows does not have the name %s", w.Image)
	}
	if !names.MatchPlatform(i.Platform, w.Platform) {
		may := i.Content == puller.ContentWhole && names.MayMatchPlatform(i.Platform, w.Platform) || i.Content == puller.ContentUnknown && end != nil
		if _, seen := p.proofs.get(i.ID, w); !may || !seen {
			return may, puller.Errorf(puller.ErrPlatformMismatch, "the engine has it for %s, not %s", told(i.Platform), w.Platform)
		}
	}
	switch {
	case i.Content == puller.ContentPartial && w.Platform != "":
		return false, puller.Errorf(puller.ErrNotFound, "the engine does not have all of its content for %s", w.Platform)
	case i.Content == puller.ContentPartial:
		return false, puller.Errorf(puller.ErrNotFound, "the engine does not have all of its content for the engine's own platform")
	case i.Content == puller.ContentUnknown && end == nil: // else the engine's pull decides
		return false, puller.Errorf(puller.ErrNotFound, "the engine can't tell whether all of its content is there; it can from API version 1.48 on")
	}
	if announced == "" || p.Has(i, w, announced) {
		return false, nil
	}
	// A graph driver leaves the digest of an index with the platform that was pulled
	// first, and shows it with no other one.
	if others := i.Digests(at.Repository); len(others) > 0 {
		return true, puller.Errorf(puller.ErrCorrupt, "the engine announced the digest %s, but the image that is there has %s", announced, puller.Listed(others))
	}
	return true, puller.Errorf(puller.ErrTruncated, "the engine announced the digest %s, but shows the image that is there without a digest of %s: it is unproven", announced, at.Repository)
}

// confirm asks the registry what it has for the platform, under the digest that was
// announced if there is one. It returns the digest if that is the image which the
// engine showed. If the registry can't be asked, the error is doubt.
func (p *Prover) confirm(ctx context.Context, i puller.Image, w Wanted, announced string, c puller.Credentials, doubt error) (string, error) {
	m, err := p.manifestOf(ctx, i, w, announced, c)
	switch {
	case errors.Is(err, ErrNoRegistry):
		return "", doubt
	case err != nil:
		kind := puller.KindOf(doubt)
		if puller.KindOf(err).Retryable() || ctx.Err() != nil {
			kind = puller.KindOf(err)
		}
		return "", &puller.Error{Kind: kind, RetryAfter: puller.RetryAfterOf(err), Err: fmt.Errorf("%w; the registry could not be asked which image that is: %w", doubt, err)}
	}
	same := i.ID == m.Config || i.ID == m.Image || i.Manifest != "" && i.Manifest == m.Image ||
		i.ID == m.Digest && (i.Content == puller.ContentUnknown || slices.Equal(i.DiffIDs, m.DiffIDs))
	switch {
	case !names.MatchPlatform(m.Platform, w.Platform):
		return "", puller.Errorf(puller.ErrPlatformMismatch, "%w; the registry has it for %s", doubt, told(m.Platform))
	case !same && puller.KindOf(doubt) == puller.ErrPlatformMismatch:
		return "", puller.Errorf(puller.ErrPlatformMismatch, "%w; the registry has another image for it", doubt)
	case !same:
		return "", puller.Errorf(puller.ErrCorrupt, "%w; the registry has another image for the platform %s", doubt, told(m.Platform))
	}
	return m.Digest, nil
}

// manifestOf asks the registry for the image that an engine pulled, by the digest that
// it announced, if it did.
func (p *Prover) manifestOf(ctx context.Context, i puller.Image, w Wanted, announced string, c puller.Credentials) (puller.Manifest, error) {
	r := puller.PullRequest{Image: w.Image, Platform: w.Platform, Credentials: c}
	if announced != "" {
		r.Image = names.ParseName(w.Image).Repository + "@" + announced
	}
	return p.Manifest(ctx, r, i.Platform, i.OSVersion, false)
}

// told names a platform in a message.
func told(platform string) string {
	if strings.Trim(platform, "/") == "" {
		return "a platform that it does not tell"
	}
	return puller.Clip(platform)
}
