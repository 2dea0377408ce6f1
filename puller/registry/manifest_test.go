package registry_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/towline/towline/puller"
)

// wantLayers compares a manifest's layers with the image's.
func wantLayers(t *testing.T, m puller.Manifest, image v1.Image) {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var blobs []puller.Blob
	var ids []string
	for _, l := range layers {
		size, _ := l.Size()
		id, _ := l.DiffID()
		blobs, ids = append(blobs, puller.Blob{Digest: digestOf(t, l), Size: size}), append(ids, id.String())
	}
	if diff := cmp.Diff(blobs, m.Layers) + cmp.Diff(ids, m.DiffIDs); diff != "" {
		t.Errorf("layers (-want +got):\n%s", diff)
	}
}

func query(image string) puller.ManifestQuery {
	return puller.ManifestQuery{Image: image, Platform: "linux/amd64"}
}

func TestManifest(t *testing.T) {
	r, c := newTestRegistry(t), newClient(t)
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

func TestManifestOfIndex(t *testing.T) {
	r, c := newTestRegistry(t), newClient(t)
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

func TestManifestOfIndexWithoutPlatform(t *testing.T) {
	r, c := newTestRegistry(t), newClient(t)
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

func TestManifestSharedRead(t *testing.T) {
	const askers = 50
	r, c := newTestRegistry(t), newClient(t)
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

// The caller that began the read leaves. The other gets the manifest.
func TestManifestReaderLeaves(t *testing.T) {
	r, c := newTestRegistry(t), newClient(t)
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
			t.Errorf("the first caller: %v", err)
		}
	})
	<-reading
	work.Go(func() {
		if _, err := c.Manifest(t.Context(), query(ref)); err != nil {
			t.Errorf("the second caller: %v", err)
		}
	})
	<-joined
	cancel()
	work.Wait()
	r.wants(2, 2, 1)
}

func TestManifestWaiterLeaves(t *testing.T) {
	r, c := newTestRegistry(t), newClient(t)
	ref := r.push("app:v1", newImage(t, "linux/amd64", 1))
	reading, release := make(chan struct{}), make(chan struct{})
	r.intercept(func(_ http.ResponseWriter, req *http.Request) bool {
		if req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/manifests/") {
			close(reading)
			<-release
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
	close(release)
	work.Wait()
}

func TestManifestOtherCredentials(t *testing.T) {
	r, c := newTestRegistry(t), newClient(t)
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
	// Bob is rate limited, but his HEAD succeeds, so he gets the cached manifest.
	blocked = true
	q.Credentials = credentials(t, `{"username":"bob","password":"x"}`)
	if _, err := c.Manifest(t.Context(), q); err != nil {
		t.Error(err)
	}
	r.wants(4, 1, 1)
}

// Callers with other credentials do not share a read: they can have other permissions.
func TestManifestReadPerCredentials(t *testing.T) {
	r, c := newTestRegistry(t), newClient(t)
	ref := r.push("app:v1", newImage(t, "linux/amd64", 1))
	reading, release := make(chan struct{}), make(chan struct{})
	r.intercept(func(w http.ResponseWriter, req *http.Request) bool {
		switch user, _, _ := req.BasicAuth(); {
		case req.URL.Path == "/v2/":
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		case req.Method == http.MethodGet && user == "":
			close(reading)
			<-release
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		}
		return false
	})
	var work sync.WaitGroup
	work.Go(func() {
		_, err := c.Manifest(t.Context(), query(ref))
		if puller.KindOf(err) != puller.ErrRateLimited {
			t.Errorf("the anonymous caller: %v", err)
		}
	})
	<-reading
	q := query(ref)
	q.Credentials = credentials(t, `{"username":"ada","password":"`+secret+`"}`)
	if _, err := c.Manifest(t.Context(), q); err != nil {
		t.Error(err)
	}
	close(release)
	work.Wait()
}

// A registry can claim to have any digest.
func TestManifestClaimedDigest(t *testing.T) {
	r, c, evil := newTestRegistry(t), newClient(t), newTestRegistry(t)
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

func TestManifestFree(t *testing.T) {
	for _, header := range []string{"", "RateLimit-Limit", "ratelimit-remaining", "X-RateLimit-Remaining"} {
		t.Run("header "+header, func(t *testing.T) {
			r, c := newTestRegistry(t), newClient(t)
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
			// A cached manifest costs nothing.
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

func TestManifestRefused(t *testing.T) {
	for status, kind := range map[int]puller.ErrorKind{
		401: puller.ErrDenied, 402: puller.ErrDenied, 403: puller.ErrDenied, 404: puller.ErrNotFound, 410: puller.ErrNotFound, 412: puller.ErrDenied, 416: puller.ErrRegistryUnavailable,
		423: puller.ErrDenied, 429: puller.ErrRateLimited, 451: puller.ErrDenied, 500: puller.ErrRegistryUnavailable, 503: puller.ErrRegistryUnavailable,
	} {
		for _, what := range []string{"HEAD manifests", "GET manifests", "GET blobs"} {
			if what == "HEAD manifests" && (status == 403 || status == 404) {
				continue // a GET follows
			}
			t.Run(fmt.Sprint(what, status), func(t *testing.T) {
				r, c := newTestRegistry(t), newClient(t)
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

func TestManifestContextEnds(t *testing.T) {
	for _, of := range []string{"/manifests/", "/blobs/"} {
		r, c := newTestRegistry(t), newClient(t)
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

// made is a registry that has only "/app:v1", with this manifest and these blobs.
func made(t *testing.T, manifest string, blobs ...string) (ref string) {
	t.Helper()
	r := newTestRegistry(t)
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

func TestManifestInvalid(t *testing.T) {
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
		{"more layers than the configuration lists", image(layer("1"), layer("1")), puller.ErrCorrupt, "2 layers"},
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

func TestManifestWrongContent(t *testing.T) {
	for _, c := range []struct {
		of, how string
		kind    puller.ErrorKind
	}{
		{"manifests", "changed", puller.ErrCorrupt}, {"blobs", "changed", puller.ErrCorrupt},
		{"manifests", "cut", puller.ErrRegistryUnavailable}, {"blobs", "cut", puller.ErrRegistryUnavailable},
	} {
		t.Run(c.of+" "+c.how, func(t *testing.T) {
			r, client := newTestRegistry(t), newClient(t)
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

func TestManifestInvalidReference(t *testing.T) {
	_, err := newClient(t).Manifest(t.Context(), query("UPPER case"))
	wantKind(t, err, puller.ErrInvalidRequest)
}
