package registry

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/redact"
	"github.com/towline/towline/puller/registry/manifest"
	"github.com/towline/towline/puller/registry/transport"
)

// lookup is one call of the Client: what it asks a registry about one image.
type lookup struct {
	image       string
	ref         name.Reference
	credentials puller.Credentials
	// credentialsErr is why Towline's own credentials were not found.
	credentialsErr error
	session        *session
	recorder       *recorder

	body       []byte  // of the manifest that head has read, nil where it has read none
	bodyDigest v1.Hash // of body
}

// newLookup returns a lookup with a caller's credentials, or else with Towline's own. Where
// there are none of either, the calls are anonymous, as an engine's are.
func (c *Client) newLookup(ctx context.Context, image string, credentials puller.Credentials) (*lookup, error) {
	if credentials != (puller.Credentials{}) {
		return c.newLookupWith(image, credentials, nil)
	}
	own, err := c.Credentials(ctx, image)
	return c.newLookupWith(image, own, err)
}

// newLookupWith returns a lookup with these credentials, which may be none, and with no
// others. missing is why Towline's own were not found.
func (c *Client) newLookupWith(image string, credentials puller.Credentials, missing error) (*lookup, error) {
	l := &lookup{image: image, credentials: credentials, credentialsErr: missing, recorder: &recorder{next: c.transports.System()}}
	var err error
	if l.ref, err = name.ParseReference(image); err != nil {
		return nil, l.fail(puller.ErrInvalidRequest, err)
	}
	login, err := loginOf(l.credentials)
	if err != nil {
		return nil, l.fail(puller.ErrInvalidRequest, err)
	}
	l.session = newSession(l.ref.Context(), login, c.transports, l.recorder)
	return l, nil
}

// isCounted reports whether a GET of a manifest counts against a rate limit.
func (l *lookup) isCounted() bool {
	return l.recorder.rateLimited.Load() || l.ref.Context().RegistryStr() == name.DefaultRegistry
}

// retriedByGet are the answers to a HEAD after which a GET can succeed: some registries and
// proxies do not know HEAD or refuse it. The body of a GET also says why it is refused.
var retriedByGet = []int{http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented}

// head returns the digest that the reference has now. Where the HEAD gives no digest, a GET
// follows, unless it counts against a rate limit.
func (l *lookup) head(ctx context.Context) (v1.Hash, error) {
	id := l.ref.Identifier()
	digest, err := l.session.head(ctx, id)
	var status *statusError
	needsGet := err == nil && digest == (v1.Hash{}) || errors.As(err, &status) && slices.Contains(retriedByGet, status.status)
	switch {
	case needsGet && !l.isCounted():
		l.body, digest, err = l.session.manifest(ctx, id)
		l.bodyDigest = digest
	case err == nil && digest == (v1.Hash{}):
		err = errors.New("its answer to HEAD has no digest, and a GET would count against the registry's rate limit")
	}
	if want, ok := l.ref.(name.Digest); ok && err == nil && digest.String() != want.DigestStr() {
		err = fmt.Errorf("it answers %s when asked for %s", digest, want.DigestStr())
	}
	if err != nil {
		return digest, l.fail(cmp.Or(kindOf(ctx, err), puller.ErrRegistryUnavailable), err)
	}
	return digest, nil
}

// canceledError is the error of a read whose caller's context has ended.
type canceledError struct{ error }

func (e canceledError) Unwrap() error { return e.error }

// manifest returns a manifest from the cache or the registry. Concurrent calls with the
// same credentials share one read; other credentials can have another result. The cache
// key has the repository in it, because a registry can claim to have any digest.
func (c *Client) manifest(ctx context.Context, l *lookup, digest v1.Hash, free bool) (manifest.Manifest, error) {
	key := l.ref.Context().Digest(digest.String()).Name()
	for {
		if m, ok := c.cache.Get(key); ok {
			return m, nil
		}
		if free && l.isCounted() {
			return manifest.Manifest{}, l.fail(puller.ErrRateLimited, puller.ErrCounts)
		}
		read := c.reads.DoChan(key+" "+l.credentials.Header(), func() (any, error) {
			if m, ok := c.cache.Get(key); ok { // an earlier read has just ended
				return m, nil
			}
			m, err := l.read(ctx, digest)
			switch {
			case err == nil:
				c.cache.Add(key, m)
			case ctx.Err() != nil:
				err = canceledError{err}
			}
			return m, err
		})
		select {
		case <-ctx.Done():
			return manifest.Manifest{}, l.fail(kindOf(ctx, ctx.Err()), ctx.Err())
		case r := <-read:
			var canceled canceledError
			switch {
			case r.Err == nil:
				return r.Val.(manifest.Manifest), nil
			case errors.As(r.Err, &canceled) && ctx.Err() == nil:
				// The caller that began the read has left. Read again.
			default:
				return manifest.Manifest{}, l.own(r.Err)
			}
		}
	}
}

// read gets a manifest, and an image's configuration.
func (l *lookup) read(ctx context.Context, digest v1.Hash) (manifest.Manifest, error) {
	body := l.body
	if digest != l.bodyDigest {
		var err error
		if body, _, err = l.session.manifest(ctx, digest.String()); err != nil {
			return manifest.Manifest{}, l.failRead(ctx, err)
		}
	}
	m, config, err := manifest.Parse(body)
	if err == nil && config != nil {
		var content []byte
		if content, err = l.session.blob(ctx, config.Digest); err == nil {
			err = m.ParseConfig(content)
		}
	}
	if err != nil {
		return manifest.Manifest{}, l.failRead(ctx, err)
	}
	return m, nil
}

// own puts this lookup's image into an error that another lookup's read may have returned.
func (l *lookup) own(err error) error {
	var e *puller.Error
	if !errors.As(err, &e) {
		return l.fail(puller.ErrInternal, err)
	}
	own := *e
	own.Ref = l.image
	return &own
}

// failRead is fail for content whose digest is known. An error of no other kind is an error
// in the content.
func (l *lookup) failRead(ctx context.Context, err error) error {
	return l.fail(cmp.Or(kindOf(ctx, err), puller.ErrCorrupt), err)
}

func (l *lookup) fail(kind puller.ErrorKind, err error) error {
	err = puller.WithoutCredentials(kind, err, l.credentialsErr)
	return &puller.Error{Op: "ask the registry for", Ref: l.image, Kind: kind, RetryAfter: time.Duration(l.recorder.retryAfter.Load()), Err: l.redact(err)}
}

// maxMessage limits an error's message, in bytes.
const maxMessage = 2 << 10

// redact returns an error without the credentials and tokens that the registry was sent,
// and without the query strings of URLs: registries can quote both.
func (l *lookup) redact(err error) error {
	message := redact.New(l.recorder.sentTokens()...).Text(redact.Of(l.credentials).Text(redact.URLQueries(err.Error())))
	if len(message) > maxMessage { // cut last: a part of a secret would not be found
		message = strings.ToValidUTF8(message[:maxMessage], "") + "…"
	}
	if message == err.Error() {
		return err
	}
	return errors.New(message)
}

// kindOf returns an error's kind, "" where neither the registry nor the network caused it.
func kindOf(ctx context.Context, err error) puller.ErrorKind {
	var status *statusError
	var token *errcode.ErrorResponse
	var notImage manifest.NotImageError
	var network net.Error
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return puller.ErrCanceled
	case errors.Is(err, transport.ErrPrivate), errors.Is(err, transport.ErrMetadata), errors.Is(err, transport.ErrRedirected), errors.Is(err, errPlain):
		return puller.ErrForbidden
	case errors.As(err, &notImage):
		return puller.ErrInvalidRequest
	case errors.As(err, &status):
		return puller.KindOfStatus(status.status)
	case errors.As(err, &token):
		return puller.KindOfStatus(token.StatusCode)
	case errors.Is(err, auth.ErrBasicCredentialNotFound), strings.Contains(err.Error(), "missing username or password"):
		return puller.ErrDenied
	case strings.Contains(err.Error(), "empty token returned"), strings.Contains(err.Error(), "failed to decode response"):
		return puller.ErrInvalidRequest // the server is no registry's token server
	case ctx.Err() != nil, isNoAnswer(err), errors.As(err, &network), errors.Is(err, io.ErrUnexpectedEOF):
		return puller.ErrRegistryUnavailable
	}
	return ""
}

// loginOf decodes credentials in the form of Docker's clients (Docker Engine API,
// "Authentication").
func loginOf(c puller.Credentials) (a authn.AuthConfig, err error) {
	if c.Header() == "" {
		return a, nil
	}
	raw, err := base64.URLEncoding.DecodeString(c.Header())
	if err != nil {
		return a, errors.New("the credentials are not base64url")
	}
	// The decoder's error can quote the secret.
	if json.Unmarshal(raw, &a) != nil {
		return a, errors.New("the credentials are not a JSON object of strings")
	}
	return a, nil
}
