package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"

	"github.com/distribution/reference"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/towline/towline/puller"
)

// repository is a puller.Repository. It is a lookup that asks more than once.
type repository struct {
	*lookup
	// opening is held by the one call that opens the session.
	opening chan struct{}
	// own asks the registry for blobs, with the login. storage asks other hosts, without
	// it. Neither follows redirects of blobs.
	own, storage *auth.Client
	locations    *lru.Cache[string, *location] // by digest
}

// Repository implements puller.Registry.
func (c *Client) Repository(_ context.Context, image string, credentials puller.Credentials) (puller.Repository, error) {
	l, err := c.newLookupWith(image, credentials, nil)
	if err != nil {
		return nil, err
	}
	locations, err := lru.New[string, *location](maxCached)
	if err != nil {
		return nil, l.fail(puller.ErrInternal, err)
	}
	l.recorder.many = true
	client := &http.Client{Transport: blobTransport{l.recorder}, CheckRedirect: followTokens}
	return &repository{
		lookup: l, opening: make(chan struct{}, 1), locations: locations,
		own:     newAuthClient(client, l.session.login, l.session.tokens),
		storage: newAuthClient(client, auth.EmptyCredential, auth.NewCache()),
	}, nil
}

// identity is the only encoding of blobs that is accepted.
const identity = "identity"

// maxRedirects is how many redirects of one request are followed.
const maxRedirects = 10

// followTokens follows redirects of requests for tokens. Those for blobs are the ones that
// name an encoding. Their redirects come back as answers.
func followTokens(_ *http.Request, via []*http.Request) error {
	switch {
	case via[0].Header.Get("Accept-Encoding") == identity:
		return http.ErrUseLastResponse
	case len(via) >= maxRedirects:
		return fmt.Errorf("more than %d redirects", maxRedirects)
	}
	return nil
}

// open opens the session, once for all calls.
func (r *repository) open(ctx context.Context) error {
	select {
	case r.opening <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-r.opening }()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return r.session.open(ctx)
}

// Manifest implements puller.Repository.
func (r *repository) Manifest(ctx context.Context, id string) (puller.RawManifest, error) {
	if !isTag(id) && digest.Digest(id).Validate() != nil {
		return puller.RawManifest{}, r.fail(ctx, puller.ErrInvalidRequest, fmt.Errorf("%.100q is neither a tag nor a digest", id))
	}
	m, err := r.content(ctx, "manifests", id)
	if err != nil {
		return m, r.fail(ctx, puller.ErrCorrupt, err)
	}
	return m, nil
}

var tag = regexp.MustCompile("^" + reference.TagRegexp.String() + "$")

func isTag(id string) bool { return tag.MatchString(id) }

// Referrers implements puller.Repository.
func (r *repository) Referrers(ctx context.Context, id string) (puller.RawManifest, error) {
	if digest.Digest(id).Validate() != nil {
		return puller.RawManifest{}, r.fail(ctx, puller.ErrInvalidRequest, fmt.Errorf("%.100q is no digest", id))
	}
	m, err := r.content(ctx, "referrers", id)
	var status *statusError
	switch {
	case errors.As(err, &status) && (status.status == http.StatusMethodNotAllowed || status.status == http.StatusNotImplemented):
		status.status = http.StatusNotFound // it does not know of referrers
		return m, r.fail(ctx, puller.ErrNotFound, err)
	case err != nil:
		return m, r.fail(ctx, puller.ErrCorrupt, err)
	}
	return m, nil
}

func (r *repository) content(ctx context.Context, kind, id string) (puller.RawManifest, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := r.open(ctx); err != nil {
		return puller.RawManifest{}, err
	}
	body, media, digest, err := r.session.content(ctx, kind, id)
	if err != nil {
		return puller.RawManifest{}, err
	}
	return puller.RawManifest{Body: body, MediaType: media, Digest: digest.String()}, nil
}

// marked is an error that is also another one.
type marked struct {
	error
	mark error
}

func (m marked) Unwrap() error { return m.mark }

// fail returns an error without secrets. kind is for errors that neither the registry nor
// the network caused.
func (r *repository) fail(ctx context.Context, kind puller.ErrorKind, err error) error {
	var failed *puller.Error
	if errors.Is(err, puller.ErrNoRanges) {
		kind = puller.ErrRegistryUnavailable
	}
	kind = cmp.Or(kindOf(ctx, err), kind)
	errors.As(r.lookup.fail(kind, err), &failed)
	var status *statusError
	switch {
	case errors.As(err, &status):
		failed.RetryAfter = status.retryAfter
	case kind != puller.ErrRateLimited:
		failed.RetryAfter = 0
	}
	for _, mark := range []error{puller.ErrNoRanges, puller.ErrBusy} {
		if errors.Is(err, mark) && !errors.Is(failed.Err, mark) {
			failed.Err = marked{failed.Err, mark}
		}
	}
	return failed
}
