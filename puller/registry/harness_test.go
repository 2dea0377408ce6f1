package registry_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	serving "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"go.uber.org/goleak"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	digest = "sha256:e1262bae8db44dfeb07a3d671238898028fe30f0ffe483cc548f615efe80c5bf"
	secret = "hunter2-of-ada"
)

// fakeRegistry is a registry on loopback.
type fakeRegistry struct {
	*httptest.Server
	host string

	mu      sync.Mutex
	heads   int
	others  []string // calls for manifests that were no HEAD
	refuses http.HandlerFunc
}

// newFakeRegistry starts a registry; ping answers /v2/, and allowed says whether a
// request for a manifest may pass.
func newFakeRegistry(t *testing.T, ping http.HandlerFunc, allowed func(*http.Request) bool) *fakeRegistry {
	t.Helper()
	f := &fakeRegistry{}
	mux := http.NewServeMux()
	mux.HandleFunc("/v2/{$}", func(w http.ResponseWriter, r *http.Request) { ping(w, r) })
	mux.HandleFunc("/v2/", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		if r.Method == http.MethodHead {
			f.heads++
		} else {
			f.others = append(f.others, r.Method)
		}
		refuses := f.refuses
		f.mu.Unlock()
		switch {
		case !allowed(r):
			w.WriteHeader(http.StatusUnauthorized)
		case refuses != nil:
			refuses(w, r)
		default:
			w.Header().Set("Docker-Content-Digest", digest)
			w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			w.Header().Set("Content-Length", "100")
		}
	})
	mux.HandleFunc("/token", f.token)
	f.Server = httptest.NewUnstartedServer(mux)
	f.Config.ErrorLog = log.New(io.Discard, "", 0) // no log
	f.Start()
	f.host = f.Listener.Addr().String()
	t.Cleanup(f.Close)
	return f
}

// token gives a token to ada, by password or by refresh token.
func (f *fakeRegistry) token(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	r.ParseForm()
	if user == "ada" && password == secret || r.Form.Get("refresh_token") == secret {
		fmt.Fprint(w, `{"token":"short-lived","access_token":"short-lived"}`)
		return
	}
	w.WriteHeader(http.StatusUnauthorized)
}

func open(http.ResponseWriter, *http.Request) {}

func challenge(scheme string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		value := `Basic realm="registry"`
		if scheme == "Bearer" {
			value = `Bearer realm="http://` + r.Host + `/token",service="registry"`
		}
		w.Header().Set("WWW-Authenticate", value)
		w.WriteHeader(http.StatusUnauthorized)
	}
}

func everyone(*http.Request) bool { return true }

func byPassword(r *http.Request) bool {
	user, password, _ := r.BasicAuth()
	return user == "ada" && password == secret
}

func byToken(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer short-lived" }

func newClient(t *testing.T) *registry.Client {
	t.Helper()
	return newClientWith(t, registry.Options{AllowPrivate: []string{"127.0.0.0/8"}}) // where the fakes are
}

func newClientWith(t *testing.T, o registry.Options) *registry.Client {
	t.Helper()
	c, err := registry.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func credentials(t *testing.T, json string) puller.Credentials {
	t.Helper()
	c, err := puller.ParseCredentials(base64.URLEncoding.EncodeToString([]byte(json)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wantKind(t *testing.T, err error, kind puller.ErrorKind) *puller.Error {
	t.Helper()
	var e *puller.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Fatalf("the error is %v, not of kind %s", err, kind)
	}
	return e
}

func wantNoSecret(t *testing.T, err error) {
	t.Helper()
	for e := err; e != nil; e = errors.Unwrap(e) {
		for _, format := range []string{"%v", "%+v", "%#v"} {
			text := fmt.Sprintf(format, e)
			for _, s := range []string{secret, base64.StdEncoding.EncodeToString([]byte("ada:" + secret)), "short-lived"} {
				if strings.Contains(text, s) {
					t.Errorf("the error has the secret in it: %s", text)
				}
			}
		}
	}
}

// testRegistry is a complete registry in this process that counts requests.
type testRegistry struct {
	t    *testing.T
	host string

	mu     sync.Mutex
	asked  map[string]int // by method and path, pushes left out
	before func(http.ResponseWriter, *http.Request) (answered bool)
}

func newTestRegistry(t *testing.T) *testRegistry {
	t.Helper()
	c := &testRegistry{t: t, asked: make(map[string]int)}
	inner := serving.New(serving.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Pusher") == "" {
			c.mu.Lock()
			c.asked[r.Method+" "+r.URL.Path]++
			before := c.before
			c.mu.Unlock()
			if before != nil && before(w, r) {
				return
			}
		}
		inner.ServeHTTP(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	c.host = s.Listener.Addr().String()
	return c
}

// gets and heads count requests for manifests and blobs.
func (c *testRegistry) count(method, kind string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for what, times := range c.asked {
		if strings.HasPrefix(what, method+" ") && strings.Contains(what, "/"+kind+"/") {
			n += times
		}
	}
	return n
}

// wants checks how many manifests were asked for by HEAD and by GET, and how
// many configurations.
func (c *testRegistry) wants(heads, gets, blobs int) {
	c.t.Helper()
	if h, g, b := c.count("HEAD", "manifests"), c.count("GET", "manifests"), c.count("GET", "blobs"); h != heads || g != gets || b != blobs {
		c.t.Errorf("it was asked for %d HEADs, %d manifests and %d blobs, not %d, %d and %d", h, g, b, heads, gets, blobs)
	}
}

func (c *testRegistry) intercept(before func(http.ResponseWriter, *http.Request) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before = before
}

type pushing struct{ http.RoundTripper }

func (p pushing) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Pusher", "1")
	return p.RoundTripper.RoundTrip(r)
}

// push puts an image or index under a name.
func (c *testRegistry) push(repo string, what remote.Taggable) (ref string) {
	c.t.Helper()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	tag, err := name.NewTag(c.host + "/" + repo)
	if err == nil {
		err = remote.Push(tag, what, remote.WithTransport(pushing{transport}))
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return tag.Name()
}

// newImage makes an image of so many layers.
func newImage(t *testing.T, platform string, layers int64) v1.Image {
	t.Helper()
	image, err := random.Image(1000, layers)
	if err != nil {
		t.Fatal(err)
	}
	p, err := v1.ParsePlatform(platform)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.OS, config.Architecture, config.Variant = p.OS, p.Architecture, p.Variant
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	return image
}

func newIndex(t *testing.T, offered ...string) (v1.ImageIndex, map[string]v1.Image) {
	t.Helper()
	var index v1.ImageIndex = empty.Index
	images := make(map[string]v1.Image)
	for _, platform := range offered {
		p, err := v1.ParsePlatform(platform)
		if err != nil {
			t.Fatal(err)
		}
		images[platform] = newImage(t, platform, 2)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: images[platform], Descriptor: v1.Descriptor{Platform: p}})
	}
	return index, images
}

func digestOf(t *testing.T, d interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	hash, err := d.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return hash.String()
}
