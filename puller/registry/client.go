// Package registry asks registries what an engine can't be asked.
package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/singleflight"

	"github.com/towline/towline/puller"
)

// limit is how long a registry may take for one answer, with the token that
// it may ask for.
const limit = 20 * time.Second

// Client is a puller.Registry. Its methods may be called from anywhere.
type Client struct {
	gate    *gate
	logins  []Login
	docker  bool
	known   *shelf
	flights singleflight.Group
	looking singleflight.Group
	stores  *stores
}

// Options say what a Client may call, and what it shows there.
type Options struct {
	// AllowPrivate are the hosts, addresses and prefixes that may be called
	// though they are in a private network. A cloud's metadata never is.
	AllowPrivate []string
	Logins       []Login
	// Docker has credentials looked up as Docker's command line does: in the
	// config.json of the daemon's user, and from the helpers that it names.
	Docker bool
}

var _ puller.Registry = (*Client)(nil)

// New returns a Client; it does not connect. The error names the option at
// fault by its key in the configuration.
func New(o Options) (*Client, error) {
	g, err := newGate(o.AllowPrivate)
	if err == nil {
		err = checkLogins(o.Logins)
	}
	if err != nil {
		return nil, err
	}
	return &Client{gate: g, logins: o.Logins, docker: o.Docker, known: newShelf(maxKnown), stores: &stores{newHelpers(helperLimit, helperRest)}}, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.gate.close() }

// Head implements puller.Registry. Registries on loopback are called over
// plain HTTP, as engines do; others over HTTPS.
func (c *Client) Head(ctx context.Context, image string, credentials puller.Credentials) (digest string, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	v, err := c.visit(ctx, image, credentials)
	if err != nil {
		return "", err
	}
	found, err := v.head(ctx)
	if err != nil {
		return "", err
	}
	return found.Digest.String(), nil
}

// visit is what one call asks a registry, with one token for all of it.
type visit struct {
	image       string
	ref         name.Reference
	credentials puller.Credentials
	unshown     error // why there are none of towline's own
	remote      *remote.Puller
	heard       *hearing
}

func (c *Client) visit(ctx context.Context, image string, credentials puller.Credentials) (*visit, error) {
	var unshown error
	if credentials == (puller.Credentials{}) {
		// An engine that is given none asks without, too.
		credentials, unshown = c.Credentials(ctx, image)
	}
	v := &visit{image: image, credentials: credentials, unshown: unshown, heard: &hearing{next: c.gate}}
	var err error
	if v.ref, err = name.ParseReference(image); err != nil {
		return nil, v.fault(puller.InvalidRequest, err)
	}
	auth, err := authenticator(credentials)
	if err != nil {
		return nil, v.fault(puller.InvalidRequest, err)
	}
	v.remote, err = remote.NewPuller(
		remote.WithAuth(auth), remote.WithTransport(v.heard),
		// Whether to try again is decided by whoever calls.
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}), remote.WithRetryStatusCodes())
	if err != nil {
		return nil, v.fault(puller.Internal, err)
	}
	return v, nil
}

// head asks what the reference names now.
func (v *visit) head(ctx context.Context) (*v1.Descriptor, error) {
	found, err := v.remote.Head(ctx, v.ref)
	if err != nil {
		return nil, v.fault(kindOf(ctx, err), err)
	}
	return found, nil
}

func (v *visit) fault(kind puller.Kind, err error) error {
	err = puller.WithoutCredentials(kind, err, v.unshown)
	return &puller.Error{Op: "ask the registry for", Ref: v.image, Kind: kind, RetryAfter: time.Duration(v.heard.wait.Load()), Err: v.plain(err)}
}

// maxWords bounds what is told of a registry's words, in bytes.
const maxWords = 2 << 10

// plain returns an error without the credentials that a registry has said again,
// and without the tokens that it was shown for them.
func (v *visit) plain(err error) error {
	said := puller.NewRedactor(v.heard.shown()...).Text(v.credentials.Redact(err.Error()))
	if len(said) > maxWords { // not before: what is cut within a secret is not found
		said = strings.ToValidUTF8(said[:maxWords], "") + "…"
	}
	if said == err.Error() {
		return err
	}
	return errors.New(said)
}

func kindOf(ctx context.Context, err error) puller.Kind {
	var answer *transport.Error
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return puller.Canceled
	case errors.Is(err, errPrivate), errors.Is(err, errMetadata), errors.Is(err, errLeads):
		return puller.Forbidden
	case !errors.As(err, &answer):
		return puller.RegistryUnavailable
	}
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return puller.Denied
	case http.StatusNotFound:
		return puller.NotFound
	case http.StatusTooManyRequests:
		return puller.RateLimited
	}
	return puller.RegistryUnavailable
}

// authenticator reads credentials as Docker's clients write them (Docker
// Engine API, "Authentication").
func authenticator(c puller.Credentials) (authn.Authenticator, error) {
	if c.Header() == "" {
		return authn.Anonymous, nil
	}
	raw, err := base64.URLEncoding.DecodeString(c.Header())
	if err != nil {
		return nil, errors.New("the credentials are not base64url")
	}
	var a authn.AuthConfig
	// The error is left out: it can quote the secret.
	if json.Unmarshal(raw, &a) != nil {
		return nil, errors.New("the credentials are not a JSON object of strings")
	}
	return authn.FromConfig(a), nil
}
