package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/towline/towline/puller/registry/manifest"
	"github.com/towline/towline/puller/registry/transport"
)

// session makes the requests of one lookup, with one login and the token that the registry
// gives for it.
type session struct {
	repo       name.Repository
	transports *transport.Set
	recorder   *recorder
	login      auth.Credential
	tokens     auth.Cache
	client     *auth.Client
	scheme     string // "" until the registry has answered
}

// newSession returns a session. It does not connect.
func newSession(repo name.Repository, login authn.AuthConfig, transports *transport.Set, recorder *recorder) *session {
	s := &session{
		repo: repo, transports: transports, recorder: recorder, tokens: auth.NewCache(),
		login: auth.Credential{Username: login.Username, Password: login.Password, RefreshToken: login.IdentityToken, AccessToken: login.RegistryToken},
	}
	s.client = newAuthClient(&http.Client{Transport: recorder}, s.login, s.tokens) // follows at most ten redirects
	return s
}

// userAgent is what registries log.
const userAgent = "towline"

func newAuthClient(client *http.Client, login auth.Credential, tokens auth.Cache) *auth.Client {
	return &auth.Client{
		Client:     client,
		Header:     http.Header{"User-Agent": {userAgent}},
		Credential: func(context.Context, string) (auth.Credential, error) { return login, nil },
		Cache:      tokens,
		// The address filter also checks the addresses of token servers.
		BlockedRealmPrefixes: []netip.Prefix{},
	}
}

// open finds the scheme and, with it, the registry's challenge: some registries send the
// challenge only at /v2/, and some have nothing there.
func (s *session) open(ctx context.Context) error {
	if s.scheme != "" {
		return nil
	}
	registry := s.repo.RegistryStr()
	verified, err := s.transports.Verified(registry)
	if err != nil {
		return err
	}
	s.recorder.next = verified
	plain := s.tryPlain(ctx, verified)
	err = s.ping(ctx, "https")
	if !isNoAnswer(err) || ctx.Err() != nil || !s.transports.IsInsecure(ctx, registry) {
		plain.cancel()
		return err
	}
	failed := unanswered{err}
	var unknown *tls.CertificateVerificationError
	if errors.As(err, &unknown) && !transport.OnLoopback(registry) {
		s.recorder.next = s.transports.Unverified()
		if err = s.ping(ctx, "https"); !isNoAnswer(err) {
			plain.cancel()
			return err
		}
		failed = append(failed, err)
	}
	s.recorder.next = verified
	if plain.answers() {
		s.scheme = "http"
		return nil
	}
	if err = s.ping(ctx, "http"); !isNoAnswer(err) {
		return err
	}
	return append(failed, err)
}

// ping calls the base of the registry's API. Every answer but a rate limit proves that the
// registry is reachable: some registries have nothing there.
func (s *session) ping(ctx context.Context, scheme string) error {
	resp, err := s.do(ctx, http.MethodGet, url.URL{Scheme: scheme, Host: s.repo.RegistryStr(), Path: "/v2/"})
	switch {
	case errors.Is(err, auth.ErrBasicCredentialNotFound): // public images need none
	case err != nil:
		return err
	default:
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusTooManyRequests {
			return newStatusError(resp)
		}
		io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the next call reuses the connection
	}
	s.scheme = scheme
	return nil
}

// isNoAnswer reports whether the registry gave no answer.
func isNoAnswer(err error) bool {
	var noAnswer *url.Error
	return errors.As(err, &noAnswer)
}

// request asks for a manifest, a blob or the referrers of the repository. The error is a
// *statusError where the status is not 200.
func (s *session) request(ctx context.Context, method, kind, id string) (*http.Response, error) {
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	resp, err := s.do(ctx, method, s.url(kind, id))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, newStatusError(resp)
	}
	return resp, nil
}

// url returns the address of a part of the repository. The session must be open.
func (s *session) url(kind, id string) url.URL {
	return url.URL{Scheme: s.scheme, Host: s.repo.RegistryStr(), Path: "/v2/" + s.repo.RepositoryStr() + "/" + kind + "/" + id}
}

func (s *session) do(ctx context.Context, method string, u url.URL) (*http.Response, error) {
	req, err := http.NewRequestWithContext(s.scoped(ctx), method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if strings.Contains(u.Path, "/manifests/") {
		for _, t := range manifestTypes {
			req.Header.Add("Accept", string(t))
		}
	}
	return s.client.Do(req)
}

// scoped returns a context that asks for tokens for this repository.
func (s *session) scoped(ctx context.Context) context.Context {
	return auth.WithScopesForHost(ctx, s.repo.RegistryStr(), auth.ScopeRepository(s.repo.RepositoryStr(), auth.ActionPull))
}

// manifestTypes are the media types of manifests that engines accept.
var manifestTypes = []types.MediaType{types.DockerManifestSchema2, types.DockerManifestList, types.OCIManifestSchema1, types.OCIImageIndex}

// head asks for the digest of a tag or digest. It is empty where the answer has none.
func (s *session) head(ctx context.Context, id string) (v1.Hash, error) {
	resp, err := s.request(ctx, http.MethodHead, "manifests", id)
	if err != nil {
		return v1.Hash{}, err
	}
	defer resp.Body.Close()
	digest, err := v1.NewHash(resp.Header.Get("Docker-Content-Digest"))
	if err != nil {
		return v1.Hash{}, nil
	}
	return digest, nil
}

// manifest reads a manifest and computes its digest.
func (s *session) manifest(ctx context.Context, id string) (body []byte, digest v1.Hash, err error) {
	body, _, digest, err = s.content(ctx, "manifests", id)
	return body, digest, err
}

// content reads a manifest, or the referrers of one.
func (s *session) content(ctx context.Context, kind, id string) (body []byte, media string, digest v1.Hash, err error) {
	resp, err := s.request(ctx, http.MethodGet, kind, id)
	if err != nil {
		return nil, "", digest, err
	}
	defer resp.Body.Close()
	media, _, err = mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || !slices.Contains(manifestTypes, types.MediaType(media)) && !types.MediaType(media).IsSchema1() {
		return nil, "", digest, manifest.NotImageError{Err: fmt.Errorf("it has the media type %.100q, which engines do not accept for an image's manifest", resp.Header.Get("Content-Type"))}
	}
	if kind == "referrers" {
		id = "" // of the manifest that they refer to
	}
	body, digest, err = readContent(resp.Body, id)
	return body, media, digest, err
}

// blob reads a blob.
func (s *session) blob(ctx context.Context, digest v1.Hash) ([]byte, error) {
	resp, err := s.request(ctx, http.MethodGet, "blobs", digest.String())
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, _, err := readContent(resp.Body, digest.String())
	return body, err
}

// readContent reads a body and computes its digest. Where id is a digest, the two must be
// equal.
func readContent(from io.Reader, id string) (body []byte, got v1.Hash, err error) {
	if body, err = io.ReadAll(from); err != nil {
		return nil, got, err
	}
	want, notDigest := v1.NewHash(id)
	algorithm := digest.Canonical
	if notDigest == nil {
		algorithm = digest.Algorithm(want.Algorithm)
	}
	if got, err = v1.NewHash(algorithm.FromBytes(body).String()); err != nil {
		return nil, got, err
	}
	if notDigest == nil && got != want {
		return nil, got, fmt.Errorf("the content of %s has the digest %s", want, got)
	}
	return body, got, nil
}
