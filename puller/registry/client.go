// Package registry asks registries for digests, manifests and sizes, which engines can't
// tell, and finds Towline's own credentials for them.
package registry

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/registry/login"
	"github.com/towline/towline/puller/registry/manifest"
	"github.com/towline/towline/puller/registry/transport"
)

const (
	// limit is how long a registry may take for one lookup, with its token.
	limit = 20 * time.Second
	// maxCached is how many manifests are kept. Most take a few KiB; the largest takes some
	// hundred KiB.
	maxCached = 1000
)

// Client is a puller.Registry. Its methods may be called from anywhere.
type Client struct {
	transports *transport.Set
	logins     *login.Logins

	cache *lru.Cache[string, manifest.Manifest] // by repository and digest
	reads singleflight.Group
}

// Options say what a Client may call, and with which credentials.
type Options struct {
	// AllowPrivate are the hosts, addresses and prefixes in private networks that may be
	// called. A cloud's metadata service never is.
	AllowPrivate []string
	Logins       []login.Login
	// Insecure are the hosts, addresses and prefixes of registries that may be called
	// without verified TLS. EngineInsecure, if not nil, returns those of the engine.
	// Registries on loopback always may.
	Insecure       []string
	EngineInsecure func(context.Context) ([]string, error)
	// Certificates is a directory in the form of Docker's certs.d, "" for none.
	Certificates string
	// Docker looks credentials up as Docker's command line does: in the config.json of the
	// daemon's user, and from the credential helpers that it names.
	Docker bool
}

var _ puller.Registry = (*Client)(nil)

// New returns a Client. It does not connect. The error names the configuration key of the
// invalid option.
func New(o Options) (*Client, error) {
	t, err := transport.New(transport.Options{AllowPrivate: o.AllowPrivate, Insecure: o.Insecure, EngineInsecure: o.EngineInsecure, Certificates: o.Certificates})
	if err != nil {
		return nil, err
	}
	l, err := login.New(o.Logins, o.Docker)
	if err != nil {
		return nil, err
	}
	cache, err := lru.New[string, manifest.Manifest](maxCached)
	if err != nil {
		return nil, err
	}
	return &Client{transports: t, logins: l, cache: cache}, nil
}

// SetLogins replaces Options.Logins and Options.Docker. The error names the configuration
// key of the invalid login; then nothing is replaced.
func (c *Client) SetLogins(configured []login.Login, docker bool) error {
	return c.logins.Set(configured, docker)
}

// Close closes idle connections.
func (c *Client) Close() { c.transports.CloseIdle() }

// Credentials implements puller.Registry. They come from a Login, or else, with
// Options.Docker, from Docker's config.json and its helpers.
func (c *Client) Credentials(ctx context.Context, image string) (puller.Credentials, error) {
	return c.logins.Credentials(ctx, image)
}

// Head implements puller.Registry. It calls registries over HTTPS. Where that fails, it
// calls registries on loopback and insecure ones over plain HTTP, as engines do.
func (c *Client) Head(ctx context.Context, image string, credentials puller.Credentials) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	l, err := c.newLookup(ctx, image, credentials)
	if err != nil {
		return "", err
	}
	digest, err := l.head(ctx)
	if err != nil {
		return "", err
	}
	return digest.String(), nil
}

// Manifest implements puller.Registry. It begins with a HEAD with the caller's own
// credentials: a cached manifest is only for callers who may read its digest in the
// repository.
func (c *Client) Manifest(ctx context.Context, q puller.ManifestQuery) (puller.Manifest, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	l, err := c.newLookup(ctx, q.Image, q.Credentials)
	if err != nil {
		return puller.Manifest{}, err
	}
	digest, err := l.head(ctx)
	if err != nil {
		return puller.Manifest{}, err
	}
	m, err := c.manifest(ctx, l, digest, q.Free)
	if err != nil {
		return puller.Manifest{}, err
	}
	imageDigest, platform, unnamed := digest, "", false
	if m.Index != nil {
		entry, err := m.Choose(q.Platform, q.OSVersion)
		if err != nil {
			return puller.Manifest{}, l.fail(puller.ErrPlatformMismatch, err)
		}
		imageDigest, platform, unnamed = entry.Digest, entry.Platform, entry.Platform == ""
		if m, err = c.manifest(ctx, l, entry.Digest, q.Free); err != nil {
			return puller.Manifest{}, err
		}
		if m.Index != nil {
			return puller.Manifest{}, l.fail(puller.ErrInvalidRequest, errors.New("it is an index of indexes, which engines do not pull"))
		}
	}
	found := m.Image
	found.Digest, found.Image, found.Unnamed = digest.String(), imageDigest.String(), unnamed
	if strings.Count(found.Platform, "/") == 1 && strings.HasPrefix(platform, found.Platform+"/") {
		found.Platform = platform // older tools write no variant into the configuration
	}
	found.Layers, found.DiffIDs = slices.Clone(found.Layers), slices.Clone(found.DiffIDs)
	return found, nil
}
