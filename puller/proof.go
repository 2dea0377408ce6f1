package puller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/towline/towline/stream"
)

// wanted is what an image is to be.
type wanted struct {
	image    string // a reference in full form, or an ID
	platform string // os/arch[/variant]; "" for any
}

// ending is what an engine's pull stream told of its own end.
type ending struct {
	digest string         // of its "Digest:" line, "" where it had none
	done   bool           // it had a "Status:" line for the image
	last   stream.Message // its last line
}

// note takes one message of the stream in.
func (e *ending) note(m stream.Message, image string) {
	e.last = m
	if d, err := digest.Parse(m.Digest()); err == nil {
		e.digest = d.String()
	}
	if ref, ok := m.Pulled(); ok && ref != "" {
		named, err := reference.ParseNormalizedNamed(ref)
		e.done = err == nil && inspectRef(reference.TagNameOnly(named).String()) == inspectRef(image)
	}
}

// prove looks at the engine after a pull whose stream ended without an error, and
// returns the image, with the digest that the registry has it under, only if it is
// what was asked for. A clean end proves nothing by itself: something on the way
// may have made one of a cut, engines say success for the wrong platform, and
// others move and remove tags meanwhile.
//
// What the engine does not show, the registry is asked for, with c.
func (p *Puller) prove(ctx context.Context, w wanted, end ending, c Credentials) (found Image, digest string, err error) {
	refuse := func(kind Kind, err error) (Image, string, error) {
		return Image{}, "", &Error{Op: "verify", Ref: w.image, Kind: kind, RetryAfter: retryAfterOf(err), Err: inner(err)}
	}
	found, err = p.engine.Inspect(ctx, inspectRef(w.image), w.platform)
	switch {
	case KindOf(err) == NotFound:
		return refuse(Truncated, errors.New("the engine's stream ended without an error, but the image is not there"))
	case err != nil:
		return Image{}, "", err
	}
	ended, err := p.toldEnd(ctx, end, found)
	switch {
	case err != nil:
		return Image{}, "", err
	case !ended:
		return refuse(Truncated, errors.New("the engine's stream ended without an error, but before it told that the image had come"))
	}
	digest = end.digest
	open, err := p.verdict(found, w, end.digest)
	switch {
	case err != nil && open:
		digest, err = p.confirm(ctx, found, w, end.digest, c, err)
	case KindOf(err) == PlatformMismatch:
		err = Errorf(PlatformMismatch, "%w: the registry has no image for that platform", inner(err))
	}
	switch {
	case KindOf(err) == NotFound:
		return refuse(Truncated, err)
	case err != nil:
		return refuse(KindOf(err), err)
	}
	if digest == "" {
		digest = p.digestNow(ctx, found, w, c)
	}
	p.proofs.put(found.ID, w, digest)
	return found, digest, nil
}

// toldEnd reports whether the stream told of its own end. Docker's engines do so with
// the image's digest and a status. Podman's last line names the ID of the image
// that came, and so does its line about the image's configuration before it: what
// counts is that the image which is there now has this ID. The engine is asked what
// it is each time, since another one may have taken its place.
func (p *Puller) toldEnd(ctx context.Context, end ending, found Image) (bool, error) {
	if end.digest != "" || end.done {
		return true, nil
	}
	if s := end.last.Status; s != "Download complete" && s != "Pull complete" {
		return false, nil
	}
	const shortID = 12 // digits of an ID in a stream
	_, digits, _ := strings.Cut(found.ID, ":")
	if len(end.last.ID) < shortID || !strings.HasPrefix(digits, end.last.ID) {
		return false, nil
	}
	engine, err := p.engine.Info(ctx)
	return engine.Name == "Podman", err
}

// absence returns nil if an image that the engine showed is what is wanted, by all
// that can be known without a registry, and else what speaks against it.
func (p *Puller) absence(i Image, w wanted) error {
	_, err := p.verdict(i, w, "")
	return err
}

// has reports whether an image is what the repository has under a digest.
func (p *Puller) has(i Image, w wanted, digest string) bool {
	known, _ := p.proofs.get(i.ID, w)
	return digest != "" && (known == digest || i.stands(partsOf(w.image).name, digest))
}

// verdict is the one place that says what an image must show to be what is wanted:
// an ID, the name, the digest, the platform. announced is the digest that the
// engine's stream told, "" for none. The error is nil if the image is proven; with
// open, the engine shows too little, and confirm can prove it.
func (p *Puller) verdict(i Image, w wanted, announced string) (open bool, err error) {
	at := partsOf(w.image)
	switch {
	case i.ID == "":
		return false, Errorf(Internal, "the engine's answer has no image ID")
	case at.id != "" && i.ID != at.id && !slices.ContainsFunc(i.RepoDigests, func(d string) bool { return partsOf(d).digest == at.id }):
		return false, Errorf(NotFound, "the engine shows the image %s instead of %s", clip(i.ID), at.id)
	case at.digest != "" && !i.stands(at.name, at.digest):
		if others := i.digests(at.name); len(others) > 0 {
			return false, Errorf(Corrupt, "the engine has %s under the digest %s, not under %s", at.name, listed(others), at.digest)
		}
		return false, Errorf(NotFound, "the engine has the digest %s only under other names than %s", at.digest, at.name)
	case at.digest != "" && announced != "" && announced != at.digest:
		return false, Errorf(Corrupt, "the engine announced the digest %s, not %s, which was asked for", announced, at.digest)
	case at.id == "" && at.digest == "" && !slices.ContainsFunc(i.RepoTags, func(t string) bool { n := partsOf(t); return n.name == at.name && n.tag == at.tag }):
		return false, Errorf(NotFound, "the image that the engine shows does not have the name %s", w.image)
	}
	if !matchPlatform(i.Platform, w.platform) {
		may := mayMatchPlatform(i.Platform, w.platform)
		if _, seen := p.proofs.get(i.ID, w); !may || !seen {
			return may, Errorf(PlatformMismatch, "the engine has it for %s, not %s", told(i.Platform), w.platform)
		}
	}
	if announced == "" || p.has(i, w, announced) {
		return false, nil
	}
	// A graph driver leaves the digest of an index with the platform that was pulled
	// first, and shows it with no other one.
	if others := i.digests(at.name); len(others) > 0 {
		return true, Errorf(Corrupt, "the engine announced the digest %s, but the image that is there has %s", announced, listed(others))
	}
	return true, Errorf(Truncated, "the engine announced the digest %s, but shows the image that is there without a digest of %s: it is unproven", announced, at.name)
}

// confirm asks the registry what it has for the platform, under the digest that was
// announced if there is one, and returns its digest if that is the image which the
// engine showed. If the registry can't be asked, doubt remains.
func (p *Puller) confirm(ctx context.Context, i Image, w wanted, announced string, c Credentials, doubt error) (string, error) {
	if p.opts.Registry == nil {
		return "", doubt
	}
	image, platform := w.image, w.platform
	if at := partsOf(image); announced != "" {
		image = at.name + "@" + announced
	}
	if platform == "" {
		platform = i.Platform
	}
	m, err := p.opts.Registry.Manifest(ctx, ManifestQuery{Image: image, Platform: platform, OSVersion: i.OSVersion, Credentials: c})
	if err != nil {
		kind := KindOf(doubt)
		if KindOf(err).Retryable() || ctx.Err() != nil {
			kind = KindOf(err)
		}
		return "", &Error{Kind: kind, RetryAfter: retryAfterOf(err), Err: fmt.Errorf("%w; the registry could not be asked which image that is: %w", doubt, err)}
	}
	same := i.ID == m.Config || i.ID == m.Image || i.ID == m.Digest && slices.Equal(i.DiffIDs, m.DiffIDs)
	switch {
	case !matchPlatform(m.Platform, w.platform):
		return "", Errorf(PlatformMismatch, "%w; the registry has it for %s", doubt, told(m.Platform))
	case !same && KindOf(doubt) == PlatformMismatch:
		return "", Errorf(PlatformMismatch, "%w; the registry has another image for it", doubt)
	case !same:
		return "", Errorf(Corrupt, "%w; the registry has another image for the platform %s", doubt, told(m.Platform))
	}
	return m.Digest, nil
}

// digestNow returns the digest of an image that was pulled by an engine that tells
// none. Where the engine shows several for the repository (Podman: those of the
// index and of the platform's manifest), the registry says which one it is.
func (p *Puller) digestNow(ctx context.Context, found Image, w wanted, c Credentials) string {
	at := partsOf(w.image)
	if digests := found.digests(at.name); len(digests) > 1 && at.digest == "" && p.opts.Registry != nil {
		if d, err := p.opts.Registry.Head(ctx, w.image, c); err == nil && found.stands(at.name, d) {
			return d
		}
	}
	return p.resultOf(found, w).Digest
}

// resultOf describes an image that is there, under the name it was asked for.
func (p *Puller) resultOf(found Image, w wanted) Result {
	r := Result{ImageID: found.ID, Size: max(0, found.Size), Source: Present}
	at := partsOf(w.image)
	known, _ := p.proofs.get(found.ID, w)
	digests := found.digests(at.name)
	switch {
	case at.digest != "":
		r.Digest = at.digest
	case known != "":
		r.Digest = known
	case len(digests) > 0:
		r.Digest = digests[len(digests)-1]
	}
	return r
}

// told names a platform in a message.
func told(platform string) string {
	if strings.Trim(platform, "/") == "" {
		return "a platform that it does not tell"
	}
	return clip(platform)
}
