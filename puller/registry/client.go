// Package registry asks registries what an engine can't be asked.
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
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/singleflight"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/redact"
)

// limit is how long a registry may take for one answer, with the token that
// it may ask for.
const limit = 20 * time.Second

// Client is a puller.Registry. Its methods may be called from anywhere.
type Client struct {
	gate    *gate
	trust   *trust
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
	// Insecure are the hosts, addresses and prefixes of registries that may be
	// called without TLS that proves who they are; EngineInsecure, if not nil,
	// asks for those of the engine. Registries on loopback always are.
	Insecure       []string
	EngineInsecure func(context.Context) ([]string, error)
	// Certificates is a directory in the form of Docker's certs.d, "" for none.
	Certificates string
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
	if err == nil {
		err = checkInsecure(o.Insecure)
	}
	if err != nil {
		return nil, err
	}
	return &Client{gate: g, trust: &trust{gate: g, insecure: o.Insecure, engines: o.EngineInsecure, dir: o.Certificates, ways: make(map[string]certified)}, logins: o.Logins, docker: o.Docker, known: newShelf(maxKnown), stores: &stores{newHelpers(helperLimit, helperRest)}}, nil
}

// Close closes idle connections.
func (c *Client) Close() {
	c.gate.close()
	c.trust.close()
}

// Head implements puller.Registry. Registries are called over HTTPS, and over plain
// HTTP where that fails and they are on loopback or listed as insecure, as engines do.
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
	return found.String(), nil
}

// visit is what one call asks a registry, with one token for all of it.
type visit struct {
	image       string
	ref         name.Reference
	credentials puller.Credentials
	unshown     error // why there are none of towline's own
	session     *session
	body        []byte  // a manifest that was read to learn its digest
	readDigest  v1.Hash // that digest
	heard       *hearing
}

func (c *Client) visit(ctx context.Context, image string, credentials puller.Credentials) (*visit, error) {
	var unshown error
	if credentials == (puller.Credentials{}) {
		// An engine that is given none asks without, too.
		credentials, unshown = c.Credentials(ctx, image)
	}
	v := &visit{image: image, credentials: credentials, unshown: unshown, heard: &hearing{next: c.gate.way}}
	var err error
	if v.ref, err = name.ParseReference(image); err != nil {
		return nil, v.fault(puller.ErrInvalidRequest, err)
	}
	login, err := loginOf(credentials)
	if err != nil {
		return nil, v.fault(puller.ErrInvalidRequest, err)
	}
	v.session = newSession(v.ref.Context(), login, c.trust, v.heard)
	return v, nil
}

// counts reports whether reading a manifest counts against a rate limit.
func (v *visit) counts() bool {
	return v.heard.counts.Load() || v.ref.Context().RegistryStr() == name.DefaultRegistry
}

// head asks what the reference names now. Some registries and proxies know no
// HEAD, refuse it or tell no digest: a GET, whose body also tells why something is
// refused, is made then, unless it counts.
func (v *visit) head(ctx context.Context) (v1.Hash, error) {
	id := v.ref.Identifier()
	digest, err := v.session.head(ctx, id)
	var refused *refusal
	again := err == nil && digest == (v1.Hash{}) || errors.As(err, &refused) && slices.Contains(retriedByGet, refused.status)
	switch {
	case again && !v.counts():
		v.body, digest, err = v.session.manifest(ctx, id)
		v.readDigest = digest
	case err == nil && digest == (v1.Hash{}):
		err = errors.New("its answer to HEAD names no digest, and a GET would count against the registry's rate limit")
	}
	if want, ok := v.ref.(name.Digest); ok && err == nil && digest.String() != want.DigestStr() {
		err = fmt.Errorf("it answers %s when asked for %s", digest, want.DigestStr())
	}
	if err != nil {
		return digest, v.fault(cmp.Or(kindOf(ctx, err), puller.ErrRegistryUnavailable), err)
	}
	return digest, nil
}

func (v *visit) fault(kind puller.ErrorKind, err error) error {
	err = puller.WithoutCredentials(kind, err, v.unshown)
	return &puller.Error{Op: "ask the registry for", Ref: v.image, Kind: kind, RetryAfter: time.Duration(v.heard.wait.Load()), Err: v.plain(err)}
}

// maxWords bounds what is told of a registry's words, in bytes.
const maxWords = 2 << 10

// plain returns an error without the credentials that a registry has said again,
// and without the tokens that it was shown for them.
func (v *visit) plain(err error) error {
	said := redact.New(v.heard.shown()...).Text(redact.Of(v.credentials).Text(err.Error()))
	if len(said) > maxWords { // not before: what is cut within a secret is not found
		said = strings.ToValidUTF8(said[:maxWords], "") + "…"
	}
	if said == err.Error() {
		return err
	}
	return errors.New(said)
}

// kindOf returns an error's kind, "" where neither the registry nor the way to it
// is known to be at fault.
func kindOf(ctx context.Context, err error) puller.ErrorKind {
	var refused *refusal
	var token *errcode.ErrorResponse
	var none noImage
	var network net.Error
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return puller.ErrCanceled
	case errors.Is(err, errPrivate), errors.Is(err, errMetadata), errors.Is(err, errLeads):
		return puller.ErrForbidden
	case errors.As(err, &none):
		return puller.ErrInvalidRequest
	case errors.As(err, &refused):
		return puller.KindOfStatus(refused.status)
	case errors.As(err, &token):
		return puller.KindOfStatus(token.StatusCode)
	case errors.Is(err, auth.ErrBasicCredentialNotFound), strings.Contains(err.Error(), "missing username or password"):
		return puller.ErrDenied
	case strings.Contains(err.Error(), "empty token returned"), strings.Contains(err.Error(), "failed to decode response"):
		return puller.ErrInvalidRequest // what answers is no registry's token server
	case ctx.Err() != nil, isWay(err), errors.As(err, &network), errors.Is(err, io.ErrUnexpectedEOF):
		return puller.ErrRegistryUnavailable
	}
	return ""
}

// loginOf reads credentials as Docker's clients write them (Docker Engine API,
// "Authentication").
func loginOf(c puller.Credentials) (a authn.AuthConfig, err error) {
	if c.Header() == "" {
		return a, nil
	}
	raw, err := base64.URLEncoding.DecodeString(c.Header())
	if err != nil {
		return a, errors.New("the credentials are not base64url")
	}
	// The error is left out: it can quote the secret.
	if json.Unmarshal(raw, &a) != nil {
		return a, errors.New("the credentials are not a JSON object of strings")
	}
	return a, nil
}
