package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/towline/towline/puller"
)

// part is a part of a blob, from offset from up to, but without, offset to.
type part struct{ from, to, size int64 }

func (p part) isWhole() bool { return p.from == 0 && p.to == p.size }

// Blob implements puller.Repository.
func (r *repository) Blob(ctx context.Context, id string, from, to, size int64) (puller.BlobBody, error) {
	p := part{from, to, size}
	if digest.Digest(id).Validate() != nil {
		return puller.BlobBody{}, r.fail(ctx, puller.ErrInvalidRequest, fmt.Errorf("%.100q is no digest", id))
	}
	if from < 0 || to > size || from > to || from == to && !p.isWhole() {
		return puller.BlobBody{}, r.fail(ctx, puller.ErrInvalidRequest, fmt.Errorf("a blob of %d bytes has no part from %d to %d", size, from, to))
	}
	if err := r.open(ctx); err != nil {
		return puller.BlobBody{}, r.fail(ctx, puller.ErrRegistryUnavailable, err)
	}
	resp, err := r.request(ctx, id, p)
	if err != nil {
		return puller.BlobBody{}, r.fail(ctx, puller.ErrRegistryUnavailable, err)
	}
	body, err := r.bodyOf(resp, p)
	if err != nil {
		resp.Body.Close()
		return puller.BlobBody{}, r.fail(ctx, puller.ErrCorrupt, err)
	}
	return body, nil
}

// request asks for a part of a blob where the blob is. It finds that out where it is not
// known. A place that refuses is found once more: the URL has expired, perhaps at once, or
// the blob has moved.
func (r *repository) request(ctx context.Context, id string, p part) (*http.Response, error) {
	l := r.location(id)
	for again := range 3 {
		at, release, err := l.current(ctx)
		if err != nil {
			return nil, err
		}
		if at == nil {
			own := r.session.url("blobs", id)
			at = &place{url: &own, direct: true}
		}
		resp, at, err := r.follow(ctx, l, at, p, release)
		if at.direct || err == nil && !refuses(resp) || ctx.Err() != nil {
			return resp, err
		}
		l.forget(at)
		if err != nil && !errors.Is(err, auth.ErrBasicCredentialNotFound) || again == 2 {
			return resp, err
		}
		if resp != nil {
			resp.Body.Close()
		}
	}
	panic("registry: not reached")
}

// follow asks for a part of a blob at a place, and where redirects lead from there. Each
// place that it comes to is the blob's location from then on. It returns the last one, and
// calls found once the location is known, and at the end.
func (r *repository) follow(ctx context.Context, l *location, at *place, p part, found func()) (*http.Response, *place, error) {
	defer found()
	for range maxRedirects {
		resp, err := r.get(ctx, at.url, p)
		if err != nil {
			return nil, at, err
		}
		next, err := redirectOf(resp)
		if next == nil || err != nil {
			if at.direct && resp.StatusCode < 300 {
				l.set(at)
			}
			return resp, at, err
		}
		io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection is used again
		resp.Body.Close()
		if next.Scheme == "http" && at.url.Scheme == "https" && !r.session.transports.IsInsecure(ctx, next.Host) {
			return nil, at, fmt.Errorf("%w: %s", errPlain, next.Host)
		}
		at = newPlace(next, resp.Header)
		l.set(at)
		found()
	}
	return nil, at, fmt.Errorf("it redirects more than %d times", maxRedirects)
}

// get asks for a part of a blob at a URL.
func (r *repository) get(ctx context.Context, u *url.URL, p part) (*http.Response, error) {
	req, err := http.NewRequestWithContext(r.session.scoped(ctx), http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, errors.New("it redirects to an invalid URL")
	}
	req.Header.Set("Accept-Encoding", identity)
	if !p.isWhole() {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", p.from, p.to-1))
	}
	if r.isOwn(u) {
		return r.own.Do(req)
	}
	resp, err := r.storage.Do(req)
	return resp, withoutURL(err, u)
}

// isOwn reports whether a URL is one of the registry itself, which may see credentials.
func (r *repository) isOwn(u *url.URL) bool {
	return u.Scheme == r.session.scheme && u.Host == r.session.repo.RegistryStr()
}

// withoutURL returns an error without a URL of which all but the host may be secret.
func withoutURL(err error, u *url.URL) error {
	var noAnswer *url.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &noAnswer):
		return &url.Error{Op: noAnswer.Op, URL: u.Scheme + "://" + u.Host + "/…", Err: noAnswer.Err}
	case errors.Unwrap(err) != nil: // what it wraps has no URL
		return fmt.Errorf("ask %s for a blob: %w", u.Host, errors.Unwrap(err))
	}
	return err
}

// bodyOf returns the body of an answer that has what was asked for.
func (r *repository) bodyOf(resp *http.Response, p part) (puller.BlobBody, error) {
	if e := resp.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, identity) && resp.StatusCode < 300 {
		return puller.BlobBody{}, fmt.Errorf("its answer is encoded as %.40q, though towline asked for no encoding", e)
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		if resp.ContentLength >= 0 && resp.ContentLength != p.size {
			return puller.BlobBody{}, fmt.Errorf("the blob has %d bytes there instead of %d", resp.ContentLength, p.size)
		}
		return puller.BlobBody{ReadCloser: &exactBody{resp.Body, p.size}, Whole: true}, nil
	case resp.StatusCode == http.StatusPartialContent && !p.isWhole():
		got, want := resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/%d", p.from, p.to-1, p.size)
		if left := p.to - p.from; got != want || resp.ContentLength >= 0 && resp.ContentLength != left {
			return puller.BlobBody{}, fmt.Errorf("%w: it answers with %q and %d bytes instead of %q", puller.ErrNoRanges, puller.Clip(got), resp.ContentLength, want)
		}
		return puller.BlobBody{ReadCloser: &exactBody{resp.Body, p.to - p.from}}, nil
	}
	return puller.BlobBody{}, r.refusal(resp, p)
}

// refusal returns the error for an answer without content.
func (r *repository) refusal(resp *http.Response, p part) error {
	refused := newStatusError(resp)
	if u := resp.Request.URL; !r.isOwn(u) {
		// Storage quotes what was signed.
		refused.url, refused.message = u.Scheme+"://"+u.Host+"/…", ""
	}
	switch refused.status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return fmt.Errorf("%w: %w", puller.ErrBusy, refused)
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusRequestedRangeNotSatisfiable, http.StatusNotImplemented:
		if !p.isWhole() {
			return fmt.Errorf("%w: %w", puller.ErrNoRanges, refused)
		}
	}
	return refused
}

// exactBody is a body that has exactly so many bytes left. What comes after them is not
// read.
type exactBody struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (b *exactBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	switch {
	case b.left == 0:
		return n, io.EOF
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return n, err
	}
	return n, cutError{err}
}

// cutError is the error of a body that is cut, whatever cut it.
type cutError struct{ error }

func (cutError) Is(target error) bool { return target == io.ErrUnexpectedEOF }

// redirectOf returns where an answer leads, nil for one that is no redirect.
func redirectOf(resp *http.Response) (*url.URL, error) {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, nil
	}
	next, err := resp.Location()
	if err != nil || next.Host == "" || next.Scheme != "http" && next.Scheme != "https" {
		resp.Body.Close()
		return nil, errors.New("it redirects to an invalid URL") // which may be secret
	}
	next.User, next.Fragment = nil, ""
	return next, nil
}

var errPlain = errors.New("it redirects from TLS to plain HTTP, which towline follows only to hosts that registries.insecure lists")
