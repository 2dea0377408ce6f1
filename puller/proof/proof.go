package proof

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/names"
	"github.com/towline/towline/stream/pullstream"
)

// Ending is what an engine's pull stream told of its own end.
type Ending struct {
	digest string             // of its "Digest:" line, "" where it had none
	done   bool               // it had a "Status:" line for the image
	last   pullstream.Message // its last line
}

// Note takes in one message of the stream.
func (e *Ending) Note(m pullstream.Message, image string) {
	e.last = m
	if d, err := digest.Parse(m.Digest()); err == nil {
		e.digest = d.String()
	}
	if ref, ok := m.Pulled(); ok && ref != "" {
		named, err := reference.ParseNormalizedNamed(ref)
		e.done = err == nil && names.EngineRef(reference.TagNameOnly(named).String()) == names.EngineRef(image)
	}
}

// Prove looks at the engine after a pull whose stream ended without an error. It
// returns the image, with the digest that the registry has it under, only if it is
// what was asked for. A clean end proves nothing by itself: a proxy may have made
// one of a cut, engines say success for the wrong platform, and others move and
// remove tags meanwhile. What the engine does not show is asked of the registry,
// with c.
func (p *Prover) Prove(ctx context.Context, w Wanted, end Ending, c puller.Credentials) (found puller.Image, digest string, err error) {
	refuse := func(kind puller.ErrorKind, err error) (puller.Image, string, error) {
		return puller.Image{}, "", &puller.Error{Op: "verify", Ref: w.Image, Kind: kind, RetryAfter: puller.RetryAfterOf(err), Err: puller.Inner(err)}
	}
	found, err = p.engine.Inspect(ctx, names.EngineRef(w.Image), w.Platform)
	switch {
	case puller.KindOf(err) == puller.ErrNotFound:
		return refuse(puller.ErrTruncated, errors.New("the engine's stream ended without an error, but the image is not there"))
	case err != nil:
		return puller.Image{}, "", err
	}
	ended, err := p.endSeen(ctx, end, found)
	switch {
	case err != nil:
		return puller.Image{}, "", err
	case !ended:
		return refuse(puller.ErrTruncated, errors.New("the engine's stream ended without an error, but before it told that the image had come"))
	}
	digest = end.digest
	open, err := p.verdict(found, w, &end)
	switch {
	case err != nil && open:
		digest, err = p.confirm(ctx, found, w, end.digest, c, err)
	case puller.KindOf(err) == puller.ErrPlatformMismatch:
		// A pull of another platform may have taken the name from this one.
		if m, asked := p.manifestOf(ctx, found, w, end.digest, c); asked == nil && names.MatchPlatform(m.Platform, w.Platform) {
			err = puller.Errorf(puller.ErrTruncated, "%w, though the registry has an image for that platform: another pull has moved the name", puller.Inner(err))
		} else {
			err = puller.Errorf(puller.ErrPlatformMismatch, "%w: the registry has no image for that platform", puller.Inner(err))
		}
	}
	switch {
	case puller.KindOf(err) == puller.ErrNotFound:
		return refuse(puller.ErrTruncated, err)
	case err != nil:
		return refuse(puller.KindOf(err), err)
	}
	if digest == "" {
		digest = p.digestNow(ctx, found, w, c)
	}
	p.proofs.put(found.ID, w, digest)
	return found, digest, nil
}

// endSeen reports whether the stream told of its own end. Docker's engines do so with
// the image's digest and a status. Podman's last line names the ID of the image
// that came, and so does its line about the image's configuration before it: what
// counts is that the image which is there now has this ID. The engine is asked what
// it is each time, since another one may have taken its place.
func (p *Prover) endSeen(ctx context.Context, end Ending, found puller.Image) (bool, error) {
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

// digestNow returns the digest of an image that was pulled by an engine that tells
// none. Where the engine shows several for the repository (Podman: those of the
// Index and of the platform's manifest), the registry says which one it is.
func (p *Prover) digestNow(ctx context.Context, found puller.Image, w Wanted, c puller.Credentials) string {
	at := names.ParseName(w.Image)
	if digests := found.Digests(at.Repository); len(digests) > 1 && at.Digest == "" && p.registry != nil {
		if d, err := p.registry.Head(ctx, w.Image, c); err == nil && found.HasDigest(at.Repository, d) {
			return d
		}
	}
	return p.Result(found, w).Digest
}

// Result describes an image that is there, under the name it was asked for.
func (p *Prover) Result(found puller.Image, w Wanted) puller.Result {
	r := puller.Result{ImageID: found.ID, Manifest: found.Manifest, Size: max(0, found.Size), Source: puller.SourcePresent}
	at := names.ParseName(w.Image)
	known, _ := p.proofs.get(found.ID, w)
	digests := found.Digests(at.Repository)
	switch {
	case at.ID != "":
		if all := found.AllDigests(); len(all) == 1 || slices.Contains(all, at.ID) {
			r.Digest = all[max(0, slices.Index(all, at.ID))]
		}
	case at.Digest != "":
		r.Digest = at.Digest
	case known != "":
		r.Digest = known
	case len(digests) > 0:
		r.Digest = digests[len(digests)-1]
	}
	return r
}
