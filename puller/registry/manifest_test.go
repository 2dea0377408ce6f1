package registry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	serving "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/towline/towline/puller"
)

// counted is a registry in this process that counts what it is asked.
type counted struct {
	t    *testing.T
	host string

	mu     sync.Mutex
	asked  map[string]int // by method and path, pushes left out
	before func(http.ResponseWriter, *http.Request) (answered bool)
}

func newCounted(t *testing.T) *counted {
	t.Helper()
	c := &counted{t: t, asked: make(map[string]int)}
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
func (c *counted) count(method, kind string) (n int) {
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
func (c *counted) wants(heads, gets, blobs int) {
	c.t.Helper()
	if h, g, b := c.count("HEAD", "manifests"), c.count("GET", "manifests"), c.count("GET", "blobs"); h != heads || g != gets || b != blobs {
		c.t.Errorf("it was asked for %d HEADs, %d manifests and %d blobs, not %d, %d and %d", h, g, b, heads, gets, blobs)
	}
}

func (c *counted) intercept(before func(http.ResponseWriter, *http.Request) bool) {
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
func (c *counted) push(repo string, what remote.Taggable) (ref string) {
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

// wantLayers holds what was told against the image.
func wantLayers(t *testing.T, m puller.Manifest, image v1.Image) {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Layers) != len(layers) || len(m.DiffIDs) != len(layers) {
		t.Fatalf("there are %d layers and %d diff IDs of %d", len(m.Layers), len(m.DiffIDs), len(layers))
	}
	for i, l := range layers {
		size, _ := l.Size()
		id, _ := l.DiffID()
		if got := (puller.Blob{Digest: digestOf(t, l), Size: size}); m.Layers[i] != got || m.DiffIDs[i] != id.String() {
			t.Errorf("layer %d is %+v with %s, not %+v with %s", i, m.Layers[i], m.DiffIDs[i], got, id)
		}
	}
}

func query(image string) puller.ManifestQuery {
	return puller.ManifestQuery{Image: image, Platform: "linux/amd64"}
}

func TestManifestTellsWhatAnImageIsMadeOfAndReadsItOnce(t *testing.T) {
	r, c := newCounted(t), newClient(t)
	image := newImage(t, "linux/arm64/v8", 3)
	one, two := r.push("app:v1", image), r.push("app:v2", image)
	for i, ref := range []string{one, one, two, r.host + "/app@" + digestOf(t, image)} {
		m, err := c.Manifest(t.Context(), query(ref))
		if err != nil {
			t.Fatal(err)
		}
		if m.Digest != digestOf(t, image) || m.Platform != "linux/arm64/v8" {
			t.Errorf("%s is %+v", ref, m)
		}
		wantLayers(t, m, image)
		r.wants(i+1, 1, 1)
		m.Layers[0], m.DiffIDs[0] = puller.Blob{}, "" // the caller's own
	}
	// The tag moves: what it names now is read.
	other := newImage(t, "linux/amd64", 1)
	r.push("app:v1", other)
	m, err := c.Manifest(t.Context(), query(one))
	if err != nil {
		t.Fatal(err)
	}
	wantLayers(t, m, other)
	r.wants(5, 2, 2)
}

func TestAnIndexIsReadOnceForAllPlatforms(t *testing.T) {
	r, c := newCounted(t), newClient(t)
	index, images := newIndex(t, "linux/arm/v6", "linux/arm/v7", "unknown/unknown", "linux/amd64", "linux/arm64/v8", "windows/amd64")
	ref := r.push("app:v1", index)
	for i, x := range []struct{ want, got string }{
		{"linux/amd64", "linux/amd64"}, {"linux/arm64", "linux/arm64/v8"}, {"linux/arm", "linux/arm/v7"}, {"linux/arm/v6", "linux/arm/v6"},
	} {
		m, err := c.Manifest(t.Context(), puller.ManifestQuery{Image: ref, Platform: x.want})
		if err != nil {
			t.Fatal(err)
		}
		if m.Digest != digestOf(t, index) || m.Platform != x.got {
			t.Errorf("for %s it is %+v", x.want, m)
		}
		wantLayers(t, m, images[x.got])
		r.wants(i+1, i+2, i+1)
	}
	// An image of it, by its own name.
	if _, err := c.Manifest(t.Context(), query(r.host+"/app@"+digestOf(t, images["linux/amd64"]))); err != nil {
		t.Error(err)
	}
	r.wants(5, 5, 4)
	for _, platform := range []string{"linux/s390x", "linux/arm/v5", ""} {
		_, err := c.Manifest(t.Context(), puller.ManifestQuery{Image: ref, Platform: platform})
		e := wantKind(t, err, puller.ErrPlatformMismatch)
		if e.Ref != ref || !strings.Contains(err.Error(), "linux/amd64, linux/arm/v6, linux/arm/v7, linux/arm64/v8, windows/amd64") || !strings.Contains(err.Error(), platform) {
			t.Errorf("the error is %v", err)
		}
	}
	r.wants(8, 5, 4)
}

func TestAnIndexThatDoesNotSayForWhatItsOnlyImageIsGivesIt(t *testing.T) {
	r, c := newCounted(t), newClient(t)
	image := newImage(t, "linux/amd64", 1)
	ref := r.push("app:v1", mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{}}}))
	m, err := c.Manifest(t.Context(), query(ref))
	if err != nil || m.Platform != "linux/amd64" || !m.Unnamed {
		t.Errorf("%+v, %v", m, err)
	}
	for _, named := range []remote.Taggable{newImage(t, "linux/amd64", 1), func() remote.Taggable { index, _ := newIndex(t, "linux/amd64"); return index }()} {
		if m, err := c.Manifest(t.Context(), query(r.push("app:v2", named))); err != nil || m.Unnamed {
			t.Errorf("%+v, %v", m, err)
		}
	}
}

func TestManyAskersShareOneReading(t *testing.T) {
	const askers = 50
	r, c := newCounted(t), newClient(t)
	index, images := newIndex(t, "linux/amd64", "linux/arm64")
	refs := []string{r.push("app:v1", index), r.push("app:v2", index)}
	var heads sync.WaitGroup
	heads.Add(askers)
	r.intercept(func(_ http.ResponseWriter, req *http.Request) bool {
		switch {
		case !strings.Contains(req.URL.Path, "/manifests/"):
		case req.Method == http.MethodHead:
			heads.Done()
		default:
			heads.Wait() // all are there before the first gets an answer
		}
		return false
	})
	var work sync.WaitGroup
	for i := range askers {
		work.Go(func() {
			m, err := c.Manifest(t.Context(), query(refs[i%2]))
			if err != nil || m.Platform != "linux/amd64" {
				t.Errorf("%+v, %v", m, err)
			}
		})
	}
	work.Wait()
	r.wants(askers, 2, 1)
	_ = images
}

// Whoever began the reading may go away: the others are not left without.
func TestAnAskerThatLeavesTakesNothingWithIt(t *testing.T) {
	r, c := newCounted(t), newClient(t)
	ref := r.push("app:v1", newImage(t, "linux/amd64", 1))
	reading, joined := make(chan struct{}), make(chan struct{})
	var once sync.Once
	heads := 0
	r.intercept(func(_ http.ResponseWriter, req *http.Request) bool {
		switch {
		case req.Method == http.MethodHead:
			r.mu.Lock()
			if heads++; heads == 2 {
				close(joined)
			}
			r.mu.Unlock()
		case strings.Contains(req.URL.Path, "/manifests/"):
			first := false
			once.Do(func() { first = true; close(reading) })
			if first {
				<-req.Context().Done()
			}
		}
		return false
	})
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() {
		_, err := c.Manifest(ctx, query(ref))
		if puller.KindOf(err) != puller.ErrCanceled {
			t.Errorf("who left was told %v", err)
		}
	})
	<-reading
	work.Go(func() {
		if _, err := c.Manifest(t.Context(), query(ref)); err != nil {
			t.Errorf("who stayed was told %v", err)
		}
	})
	<-joined
	cancel()
	work.Wait()
	r.wants(2, 2, 1)
}

func TestAnAskerThatJoinedMayLeave(t *testing.T) {
	r, c := newCounted(t), newClient(t)
	ref := r.push("app:v1", newImage(t, "linux/amd64", 1))
	reading, gate := make(chan struct{}), make(chan struct{})
	r.intercept(func(_ http.ResponseWriter, req *http.Request) bool {
		if req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/manifests/") {
			close(reading)
			<-gate
		}
		return false
	})
	var work sync.WaitGroup
	work.Go(func() {
		if _, err := c.Manifest(t.Context(), query(ref)); err != nil {
			t.Error(err)
		}
	})
	<-reading
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Manifest(ctx, query(ref))
	wantKind(t, err, puller.ErrRegistryUnavailable)
	close(gate)
	work.Wait()
}

func TestWhatOneMayReadOpensNothingToAnother(t *testing.T) {
	r, c := newCounted(t), newClient(t)
	ref := r.push("private:v1", newImage(t, "linux/amd64", 1))
	ada := credentials(t, `{"username":"ada","password":"`+secret+`"}`)
	eve := credentials(t, `{"username":"eve","password":"guess"}`)
	blocked := false
	r.intercept(func(w http.ResponseWriter, req *http.Request) bool {
		user, password, _ := req.BasicAuth()
		switch {
		case req.URL.Path == "/v2/":
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
		case user == "ada" && password == secret:
			return false
		case user == "bob" && (req.Method == http.MethodHead || !blocked):
			return false
		case user == "bob":
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			w.WriteHeader(http.StatusUnauthorized)
		}
		return true
	})
	q := query(ref)
	q.Credentials = ada
	if _, err := c.Manifest(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	for _, other := range []puller.Credentials{eve, {}} {
		q.Credentials = other
		_, err := c.Manifest(t.Context(), q)
		wantKind(t, err, puller.ErrDenied)
		wantNoSecret(t, err)
	}
	// Bob may not read it at present, but see that it is there: it is known.
	blocked = true
	q.Credentials = credentials(t, `{"username":"bob","password":"x"}`)
	if _, err := c.Manifest(t.Context(), q); err != nil {
		t.Error(err)
	}
	r.wants(4, 1, 1)
}

// A flight is not shared by other credentials: one may be refused what the
// other is given.
func TestOtherCredentialsReadForThemselves(t *testing.T) {
	r, c := newCounted(t), newClient(t)
	ref := r.push("app:v1", newImage(t, "linux/amd64", 1))
	reading, gate := make(chan struct{}), make(chan struct{})
	r.intercept(func(w http.ResponseWriter, req *http.Request) bool {
		switch user, _, _ := req.BasicAuth(); {
		case req.URL.Path == "/v2/":
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		case req.Method == http.MethodGet && user == "":
			close(reading)
			<-gate
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		}
		return false
	})
	var work sync.WaitGroup
	work.Go(func() {
		_, err := c.Manifest(t.Context(), query(ref))
		if puller.KindOf(err) != puller.ErrRateLimited {
			t.Errorf("who is nobody was told %v", err)
		}
	})
	<-reading
	q := query(ref)
	q.Credentials = credentials(t, `{"username":"ada","password":"`+secret+`"}`)
	if _, err := c.Manifest(t.Context(), q); err != nil {
		t.Error(err)
	}
	close(gate)
	work.Wait()
}

// A registry can claim to have any digest.
func TestARegistryThatClaimsADigestIsToldNothingOfIt(t *testing.T) {
	r, c, evil := newCounted(t), newClient(t), newCounted(t)
	image := newImage(t, "linux/amd64", 1)
	if _, err := c.Manifest(t.Context(), query(r.push("private:v1", image))); err != nil {
		t.Fatal(err)
	}
	evil.push("private:v1", newImage(t, "linux/amd64", 1))
	evil.intercept(func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method == http.MethodHead {
			w.Header().Set("Docker-Content-Digest", digestOf(t, image))
			w.Header().Set("Content-Type", string(types.DockerManifestSchema2))
			w.Header().Set("Content-Length", "100")
			return true
		}
		return false
	})
	_, err := c.Manifest(t.Context(), query(evil.host+"/private:v1"))
	wantKind(t, err, puller.ErrNotFound)
}

func TestFreeReadsOnlyWhatCostsNothing(t *testing.T) {
	for _, header := range []string{"", "RateLimit-Limit", "ratelimit-remaining", "X-RateLimit-Remaining"} {
		t.Run("header "+header, func(t *testing.T) {
			r, c := newCounted(t), newClient(t)
			index, _ := newIndex(t, "linux/amd64", "linux/arm64")
			ref := r.push("app:v1", index)
			r.intercept(func(w http.ResponseWriter, req *http.Request) bool {
				if header != "" {
					w.Header().Set(header, "100;w=21600")
				}
				return false
			})
			free := query(ref)
			free.Free = true
			_, err := c.Manifest(t.Context(), free)
			if header == "" {
				if err != nil {
					t.Error(err)
				}
				r.wants(1, 2, 1)
				return
			}
			wantKind(t, err, puller.ErrRateLimited)
			r.wants(1, 0, 0)
			// What was paid for once is free.
			if _, err := c.Manifest(t.Context(), query(ref)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Manifest(t.Context(), free); err != nil {
				t.Error(err)
			}
			r.wants(3, 2, 1)
			free.Platform = "linux/arm64"
			_, err = c.Manifest(t.Context(), free)
			wantKind(t, err, puller.ErrRateLimited)
			r.wants(4, 2, 1)
		})
	}
}

func TestManifestGivesRefusalsTheirKind(t *testing.T) {
	for status, kind := range map[int]puller.ErrorKind{
		401: puller.ErrDenied, 402: puller.ErrDenied, 403: puller.ErrDenied, 404: puller.ErrNotFound, 410: puller.ErrNotFound, 412: puller.ErrDenied, 416: puller.ErrRegistryUnavailable,
		423: puller.ErrDenied, 429: puller.ErrRateLimited, 451: puller.ErrDenied, 500: puller.ErrRegistryUnavailable, 503: puller.ErrRegistryUnavailable,
	} {
		for _, what := range []string{"HEAD manifests", "GET manifests", "GET blobs"} {
			if what == "HEAD manifests" && (status == 403 || status == 404) {
				continue // a GET follows
			}
			t.Run(fmt.Sprint(what, status), func(t *testing.T) {
				r, c := newCounted(t), newClient(t)
				ref := r.push("app:v1", newImage(t, "linux/amd64", 1))
				method, of, _ := strings.Cut(what, " ")
				r.intercept(func(w http.ResponseWriter, req *http.Request) bool {
					if req.Method != method || !strings.Contains(req.URL.Path, "/"+of+"/") {
						return false
					}
					w.Header().Set("Retry-After", "42")
					w.WriteHeader(status)
					return true
				})
				_, err := c.Manifest(t.Context(), query(ref))
				e := wantKind(t, err, kind)
				if e.Ref != ref || (e.RetryAfter == 42*time.Second) != (status == 429) {
					t.Errorf("the error is %+v", e)
				}
				if n := r.count(method, of); n != 1 {
					t.Errorf("it was asked %d times", n)
				}
				// A failure is not kept.
				r.intercept(nil)
				if _, err := c.Manifest(t.Context(), query(ref)); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestManifestEndsWithItsContext(t *testing.T) {
	for _, of := range []string{"/manifests/", "/blobs/"} {
		r, c := newCounted(t), newClient(t)
		ref := r.push("app:v1", newImage(t, "linux/amd64", 1))
		ctx, cancel := context.WithCancel(t.Context())
		r.intercept(func(w http.ResponseWriter, req *http.Request) bool {
			if req.Method == http.MethodGet && strings.Contains(req.URL.Path, of) {
				cancel()
				<-req.Context().Done()
			}
			return false
		})
		_, err := c.Manifest(ctx, query(ref))
		wantKind(t, err, puller.ErrCanceled)
	}
}

// made is a registry of one name, "/app:v1", whose documents are as they are.
func made(t *testing.T, manifest string, blobs ...string) (ref string) {
	t.Helper()
	r := newCounted(t)
	all := map[string]string{"v1": manifest}
	for _, content := range append(blobs, manifest) {
		hash, _, err := v1.SHA256(strings.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		all[hash.String()] = content
	}
	hash, _, _ := v1.SHA256(strings.NewReader(manifest))
	r.intercept(func(w http.ResponseWriter, req *http.Request) bool {
		if req.URL.Path == "/v2/" {
			return false
		}
		content, ok := all[req.URL.Path[strings.LastIndex(req.URL.Path, "/")+1:]]
		if !ok {
			return false
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		w.Header().Set("Docker-Content-Digest", hash.String())
		if req.Method == http.MethodHead {
			w.Header().Set("Content-Length", "100") // it may be a lie
			return true
		}
		io.WriteString(w, content)
		return true
	})
	return r.host + "/app:v1"
}

func TestWhatIsNoGoodImageIsSaidToBe(t *testing.T) {
	const config = `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["sha256:1111111111111111111111111111111111111111111111111111111111111111"]}}`
	hash, _, err := v1.SHA256(strings.NewReader(config))
	if err != nil {
		t.Fatal(err)
	}
	layer := func(size string) string {
		return `{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:2222222222222222222222222222222222222222222222222222222222222222","size":` + size + `}`
	}
	image := func(layers ...string) string {
		return `{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + hash.String() + `","size":10},"layers":[` + strings.Join(layers, ",") + `]}`
	}
	entry := `{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"` + hash.String() + `"}`
	artifact := strings.Replace(image(layer("1")), "vnd.oci.image.config.v1", "vnd.cncf.helm.config.v1", 1)
	for _, c := range []struct {
		name, manifest string
		kind           puller.ErrorKind // "" for none
		says           string
	}{
		{"an image", image(layer("1")), "", ""},
		{"an image of nothing", image(layer("0")), "", ""},
		{"a foreign layer, which engines fetch from elsewhere", image(strings.Replace(layer("7"), `"size"`, `"urls":["https://elsewhere.test/layer"],"size"`, 1)), "", ""},
		{"a layer in zstd", image(strings.Replace(layer("7"), "gzip", "zstd", 1)), "", ""},
		{"a configuration of no type, as old tools sent it", strings.Replace(image(layer("1")), "application/vnd.oci.image.config.v1+json", "application/octet-stream", 1), "", ""},
		{"schema 1", `{"schemaVersion":1,"name":"app","fsLayers":[{"blobSum":"x"}]}`, puller.ErrInvalidRequest, "schema 1"},
		{"an artifact", artifact, puller.ErrInvalidRequest, "helm"},
		{"an artifact without a configuration", `{"schemaVersion":2,"artifactType":"application/x"}`, puller.ErrInvalidRequest, "neither an image"},
		{"nothing", `{}`, puller.ErrInvalidRequest, "neither an image"},
		{"HTML", `<html>`, puller.ErrInvalidRequest, "HTML"},
		{"no JSON", `x`, puller.ErrCorrupt, "garbled"},
		{"a list", `[]`, puller.ErrCorrupt, "garbled"},
		{"both", strings.Replace(image(layer("1")), `"config"`, `"manifests":[],"config"`, 1), puller.ErrCorrupt, "both"},
		{"a negative size", image(layer("-1")), puller.ErrCorrupt, "-1 bytes"},
		{"sizes that overflow", image(layer("9223372036854775807"), layer("9223372036854775807")), puller.ErrCorrupt, "1 PiB"},
		{"sizes that are absurd", image(layer("1125899906842624"), layer("1")), puller.ErrCorrupt, "1 PiB"},
		{"a size that is no number", image(layer(`"1"`)), puller.ErrCorrupt, "garbled"},
		{"a size beyond all", image(layer("99999999999999999999")), puller.ErrCorrupt, "garbled"},
		{"a layer without a digest", image(`{"size":1}`), puller.ErrCorrupt, "no digest"},
		{"a layer whose digest is none", image(`{"size":1,"digest":"../../etc"}`), puller.ErrCorrupt, "garbled"},
		{"more layers than the configuration tells of", image(layer("1"), layer("1")), puller.ErrCorrupt, "2 layers"},
		{"fewer", image(), puller.ErrCorrupt, "0 layers"},
		{"too many layers", image(slices.Repeat([]string{layer("1")}, 501)...), puller.ErrCorrupt, "501 layers"},
		{"a configuration without a digest", `{"config":{"mediaType":""},"layers":[]}`, puller.ErrCorrupt, "no digest"},
		{"a configuration that is missing", strings.Replace(image(layer("1")), hash.Hex, strings.Repeat("3", 64), 1), puller.ErrNotFound, ""},
		{"a configuration that is a layer", strings.Replace(image(layer("1")), hash.Hex, strings.Repeat("3", 64), 1), puller.ErrNotFound, ""},
		{"an index of nothing", `{"schemaVersion":2,"manifests":[]}`, puller.ErrPlatformMismatch, "no platform at all"},
		{"an index of too much", `{"manifests":[` + strings.Join(slices.Repeat([]string{entry}, 1001), ",") + `]}`, puller.ErrCorrupt, "1001 manifests"},
		{"an index entry without a digest", `{"manifests":[{}]}`, puller.ErrCorrupt, "no digest"},
		{"an index of platforms with line breaks", `{"manifests":[` + strings.Replace(entry, `"size"`, `"platform":{"os":"li\nnux","architecture":"amd64"},"size"`, 1) + `]}`, puller.ErrPlatformMismatch, "no platform at all"},
		{"a huge one", `{"schemaVersion":2,"x":"` + strings.Repeat("x", 4<<20) + `"}`, puller.ErrInvalidRequest, "4 MiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := newClient(t).Manifest(t.Context(), query(made(t, c.manifest, config)))
			if c.kind == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantKind(t, err, c.kind)
			if !strings.Contains(err.Error(), c.says) || len(err.Error()) > 1000 || strings.Contains(err.Error(), "\n") {
				t.Errorf("the error is %v", err)
			}
		})
	}
	for name, content := range map[string]string{"garbled": `{`, "of another shape": `{"rootfs":[]}`, "empty": ``} {
		t.Run("a configuration that is "+name, func(t *testing.T) {
			other, _, err := v1.SHA256(strings.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			_, err = newClient(t).Manifest(t.Context(), query(made(t, strings.Replace(image(layer("1")), hash.Hex, other.Hex, 1), content)))
			wantKind(t, err, puller.ErrCorrupt)
		})
	}
	t.Run("an index of indexes", func(t *testing.T) {
		inner := `{"manifests":[]}`
		hash, _, err := v1.SHA256(strings.NewReader(inner))
		if err != nil {
			t.Fatal(err)
		}
		_, err = newClient(t).Manifest(t.Context(), query(made(t, `{"manifests":[{"size":1,"digest":"`+hash.String()+`"}]}`, inner)))
		wantKind(t, err, puller.ErrInvalidRequest)
	})
}

func TestWhatDoesNotHaveItsDigestIsCorruptAndWhatIsCutIsTheWay(t *testing.T) {
	for _, c := range []struct {
		of, how string
		kind    puller.ErrorKind
	}{
		{"manifests", "changed", puller.ErrCorrupt}, {"blobs", "changed", puller.ErrCorrupt},
		{"manifests", "cut", puller.ErrRegistryUnavailable}, {"blobs", "cut", puller.ErrRegistryUnavailable},
	} {
		t.Run(c.of+" "+c.how, func(t *testing.T) {
			r, client := newCounted(t), newClient(t)
			ref := r.push("app:v1", newImage(t, "linux/amd64", 1))
			r.intercept(func(w http.ResponseWriter, req *http.Request) bool {
				if req.Method != http.MethodGet || !strings.Contains(req.URL.Path, "/"+c.of+"/") {
					return false
				}
				w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
				if c.how == "cut" {
					w.Header().Set("Content-Length", "1000")
				}
				json.NewEncoder(w).Encode(map[string]int{"schemaVersion": 2})
				return true
			})
			_, err := client.Manifest(t.Context(), query(ref))
			wantKind(t, err, c.kind)
		})
	}
}

func TestManifestOfWhatIsNoReferenceIsInvalid(t *testing.T) {
	_, err := newClient(t).Manifest(t.Context(), query("UPPER case"))
	wantKind(t, err, puller.ErrInvalidRequest)
}
