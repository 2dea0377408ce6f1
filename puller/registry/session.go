package registry

import (
	"context"
	"crypto/tls"
	"encoding/json"
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
	"oras.land/oras-go/v2/registry/remote/auth"
)

// session is how one registry is asked for one repository, with one login and the
// token that the registry gives for it.
type session struct {
	repo   name.Repository
	trust  *trust
	heard  *hearing
	client *auth.Client
	scheme string // "" until the registry has answered
}

// newSession returns a session that has called nothing yet.
func newSession(repo name.Repository, login authn.AuthConfig, trust *trust, way *hearing) *session {
	return &session{repo: repo, trust: trust, heard: way, client: &auth.Client{
		Client: &http.Client{Transport: way}, // which follows ten redirects at most
		Header: http.Header{"User-Agent": {"towline"}},
		Credential: func(context.Context, string) (auth.Credential, error) {
			return auth.Credential{Username: login.Username, Password: login.Password, RefreshToken: login.IdentityToken, AccessToken: login.RegistryToken}, nil
		},
		Cache: auth.NewCache(),
		// The gate decides where anything may be called, realms included.
		BlockedRealmPrefixes: []netip.Prefix{},
	}}
}

// open finds the scheme, and what the registry asks for: some say that only at
// /v2/, and some have nothing there.
func (s *session) open(ctx context.Context) error {
	if s.scheme != "" {
		return nil
	}
	registry := s.repo.RegistryStr()
	verified, err := s.trust.to(registry)
	if err != nil {
		return err
	}
	s.heard.next = verified
	err = s.ping(ctx, "https")
	if !isWay(err) || ctx.Err() != nil || !s.trust.isInsecure(ctx, registry) {
		return err
	}
	failed := []error{err}
	var unknown *tls.CertificateVerificationError
	if errors.As(err, &unknown) && !onLoopback(registry) {
		s.heard.next = s.trust.gate.unverified
		if err = s.ping(ctx, "https"); !isWay(err) {
			return err
		}
		failed = append(failed, err)
	}
	s.heard.next = verified
	if err = s.ping(ctx, "http"); !isWay(err) {
		return err
	}
	return errors.Join(append(failed, err)...)
}

// ping asks the base of the registry's API. What is there makes no difference,
// but for a rate limit: some registries have nothing there.
func (s *session) ping(ctx context.Context, scheme string) error {
	resp, err := s.do(ctx, http.MethodGet, url.URL{Scheme: scheme, Host: s.repo.RegistryStr(), Path: "/v2/"})
	switch {
	case errors.Is(err, auth.ErrBasicCredentialNotFound): // what is public needs none
	case err != nil:
		return err
	default:
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusTooManyRequests {
			return newRefusal(resp)
		}
		io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // its connection serves the next call
	}
	s.scheme = scheme
	return nil
}

// isWay reports whether the registry gave no answer.
func isWay(err error) bool {
	var way *url.Error
	return errors.As(err, &way)
}

// onLoopback reports whether a registry's address is this machine's own.
func onLoopback(registry string) bool {
	host := (&url.URL{Host: registry}).Hostname()
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// ask makes a call for something in the repository. The error is a *refusal where
// the registry does not answer 200.
func (s *session) ask(ctx context.Context, method, what, id string) (*http.Response, error) {
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	resp, err := s.do(ctx, method, url.URL{Scheme: s.scheme, Host: s.repo.RegistryStr(), Path: "/v2/" + s.repo.RepositoryStr() + "/" + what + "/" + id})
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, newRefusal(resp)
	}
	return resp, nil
}

func (s *session) do(ctx context.Context, method string, u url.URL) (*http.Response, error) {
	ctx = auth.WithScopesForHost(ctx, u.Host, auth.ScopeRepository(s.repo.RepositoryStr(), auth.ActionPull))
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
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

// manifestTypes are the types of manifests that engines take.
var manifestTypes = []types.MediaType{types.DockerManifestSchema2, types.DockerManifestList, types.OCIManifestSchema1, types.OCIImageIndex}

// head asks which digest a name has. The digest is empty where the answer has none.
func (s *session) head(ctx context.Context, id string) (v1.Hash, error) {
	resp, err := s.ask(ctx, http.MethodHead, "manifests", id)
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

// manifest reads a manifest, and says which digest it has.
func (s *session) manifest(ctx context.Context, id string) (body []byte, digest v1.Hash, err error) {
	resp, err := s.ask(ctx, http.MethodGet, "manifests", id)
	if err != nil {
		return nil, digest, err
	}
	defer resp.Body.Close()
	media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || !slices.Contains(manifestTypes, types.MediaType(media)) && !types.MediaType(media).IsSchema1() {
		return nil, digest, noImage{fmt.Errorf("what is there comes as %.100q, which no engine takes for an image's manifest", resp.Header.Get("Content-Type"))}
	}
	return content(resp.Body, id)
}

// blob reads a blob.
func (s *session) blob(ctx context.Context, digest v1.Hash) ([]byte, error) {
	resp, err := s.ask(ctx, http.MethodGet, "blobs", digest.String())
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, _, err := content(resp.Body, digest.String())
	return body, err
}

// content reads what has an ID, which it is checked against if it is a digest.
func content(from io.Reader, id string) (body []byte, digest v1.Hash, err error) {
	want, notDigest := v1.NewHash(id)
	if notDigest != nil {
		want = v1.Hash{Algorithm: "sha256"}
	}
	hasher, err := v1.Hasher(want.Algorithm)
	if err != nil {
		return nil, digest, err
	}
	if body, err = io.ReadAll(from); err != nil {
		return nil, digest, err
	}
	hasher.Write(body)
	digest = v1.Hash{Algorithm: want.Algorithm, Hex: fmt.Sprintf("%x", hasher.Sum(nil))}
	if notDigest == nil && digest != want {
		return nil, digest, fmt.Errorf("what came as %s is %s", want, digest)
	}
	return body, digest, nil
}

// refusal is a registry's answer that is not 200.
type refusal struct {
	method, url string
	status      int
	said        string // in the registry's own words, "" where it has none
}

func newRefusal(resp *http.Response) *refusal {
	u := *resp.Request.URL
	u.RawQuery, u.User, u.Fragment = "", nil, "" // what is signed is secret
	r := &refusal{method: resp.Request.Method, url: u.String(), status: resp.StatusCode}
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var body struct {
		Errors  []struct{ Code, Message string }
		Details string
	}
	if json.Unmarshal(raw, &body) != nil {
		if media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); media == "text/plain" {
			r.said = strings.TrimSpace(string(raw))
		}
	}
	for _, e := range body.Errors {
		r.said = strings.Trim(r.said+"; "+strings.Trim(strings.ToLower(strings.ReplaceAll(e.Code, "_", " "))+": "+e.Message, ": "), "; ")
	}
	if r.said == "" {
		r.said = body.Details
	}
	r.said = strings.Join(strings.Fields(r.said), " ")
	if said := []rune(r.said); len(said) > 500 {
		r.said = string(said[:500]) + "…"
	}
	return r
}

// Error tells the request, the status and the registry's words.
func (r *refusal) Error() string {
	s := fmt.Sprintf("%s %s: %d %s", r.method, r.url, r.status, http.StatusText(r.status))
	if r.said != "" {
		s += ": " + r.said
	}
	return s
}

// retriedByGet are the statuses of a HEAD that a GET may not have: some registries
// and proxies know no HEAD, or refuse it; and a GET's body tells why.
var retriedByGet = []int{http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented}
