package registry

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/towline/towline/puller"
)

// Manifest implements puller.Registry. The HEAD that it begins with is made
// with the caller's own credentials: only who may read a digest in a repository
// is told what others have read of it there.
func (c *Client) Manifest(ctx context.Context, q puller.ManifestQuery) (puller.Manifest, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	v, err := c.visit(ctx, q.Image, q.Credentials)
	if err != nil {
		return puller.Manifest{}, err
	}
	found, err := v.head(ctx)
	if err != nil {
		return puller.Manifest{}, err
	}
	d, err := c.document(ctx, v, found, q.Free)
	if err != nil {
		return puller.Manifest{}, err
	}
	manifest, platform, unnamed := found, "", false
	if d.offers != nil {
		child, err := d.choose(q.Platform, q.OSVersion)
		if err != nil {
			return puller.Manifest{}, v.fault(puller.ErrPlatformMismatch, err)
		}
		manifest, platform, unnamed = child.digest, child.platform, child.platform == ""
		if d, err = c.document(ctx, v, child.digest, q.Free); err != nil {
			return puller.Manifest{}, err
		}
		if d.offers != nil {
			return puller.Manifest{}, v.fault(puller.ErrInvalidRequest, errors.New("it is an index of indexes, which engines do not pull"))
		}
	}
	m := d.image
	m.Unnamed = unnamed
	m.Digest, m.Image = found.String(), manifest.String()
	if strings.Count(m.Platform, "/") == 1 && strings.HasPrefix(platform, m.Platform+"/") {
		m.Platform = platform // older tools write no variant into the configuration
	}
	m.Layers, m.DiffIDs = slices.Clone(m.Layers), slices.Clone(m.DiffIDs)
	return m, nil
}

// leftError is why a reading failed whose caller went away.
type leftError struct{ error }

func (e leftError) Unwrap() error { return e.error }

// document returns a manifest that is known, or reads it, once for all who ask
// with the same credentials at a time: what another's are refused says nothing.
// The name it goes by has the repository in it, since a registry can claim to
// have any digest.
func (c *Client) document(ctx context.Context, v *visit, digest v1.Hash, free bool) (document, error) {
	ref := v.ref.Context().Digest(digest.String()).Name()
	for {
		if d, ok := c.known.get(ref); ok {
			return d, nil
		}
		if free && v.counts() {
			return document{}, v.fault(puller.ErrRateLimited, puller.ErrCounts)
		}
		reading := c.flights.DoChan(ref+" "+v.credentials.Header(), func() (any, error) {
			if d, ok := c.known.get(ref); ok { // an earlier flight has just landed
				return d, nil
			}
			d, err := v.read(ctx, digest)
			switch {
			case err == nil:
				c.known.put(ref, d)
			case ctx.Err() != nil:
				err = leftError{err}
			}
			return d, err
		})
		select {
		case <-ctx.Done():
			return document{}, v.fault(kindOf(ctx, ctx.Err()), ctx.Err())
		case r := <-reading:
			var left leftError
			switch {
			case r.Err == nil:
				return r.Val.(document), nil
			case errors.As(r.Err, &left) && ctx.Err() == nil:
				// It was another's, who does not want it any more.
			default:
				return document{}, v.own(r.Err)
			}
		}
	}
}

// own gives an error of read's, which may be another caller's, this call's name.
func (v *visit) own(err error) error {
	var e *puller.Error
	if !errors.As(err, &e) {
		return v.fault(puller.ErrInternal, err)
	}
	own := *e
	own.Ref = v.image
	return &own
}

// read gets a manifest, and if it is an image's, its configuration.
func (v *visit) read(ctx context.Context, digest v1.Hash) (document, error) {
	manifest := v.body
	if digest != v.readDigest {
		var err error
		if manifest, _, err = v.session.manifest(ctx, digest.String()); err != nil {
			return document{}, v.faultOfContent(ctx, err)
		}
	}
	d, config, err := readManifest(manifest)
	if err != nil || config == nil {
		return d, v.faultOfContent(ctx, err)
	}
	content, err := v.session.blob(ctx, config.Digest)
	if err == nil {
		err = d.readConfig(content)
	}
	return d, v.faultOfContent(ctx, err)
}

// faultOfContent gives an error its kind that came while something was read
// whose digest is known. What neither the registry nor the way to it is to
// blame for lies in the content.
func (v *visit) faultOfContent(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	return v.fault(cmp.Or(kindOf(ctx, err), puller.ErrCorrupt), err)
}
