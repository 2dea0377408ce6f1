package mirror_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/engines"
	"github.com/towline/towline/puller/mirror/hosts"
	"github.com/towline/towline/stream/pullstream"
)

// engine pulls over HTTP as a graph driver's engine does: under a name on loopback from
// there, under any other name from the registry of the test. It keeps layers by digest.
type engine struct {
	engines.Engine
	registry *registry
	info     puller.EngineInfo
	blind    bool   // it can't reach this machine
	mirror   string // HOST:PORT that it asks first for all images, "" for none
	hosts    string // a hosts.toml that names one
	pruned   int    // pulls whose image somebody removes before it has its name
	hub      bool   // it does not tell a mirror which registry it means

	mu       sync.Mutex
	layers   map[string]bool
	bringing map[string]*bringing // by digest
	names    map[string]string    // digests by reference
	pulled   []string             // references, in order
	removed  []string
	onLayer  func(reference, digest string) // called before a layer is read
	onPull   func(reference string)         // called when a pull begins
	onUnpack func(reference string) error   // called when all layers have come; its error ends the pull
}

func newEngine(r *registry) *engine {
	return &engine{
		registry: r, layers: make(map[string]bool), bringing: make(map[string]*bringing), names: make(map[string]string),
		info: puller.EngineInfo{Name: "Docker", Version: "20.10", ImageStore: "overlay2", Platform: "linux/amd64", Reachable: true},
	}
}

func (e *engine) Info(context.Context) (puller.EngineInfo, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.info, nil
}

func (e *engine) RemoveImage(_ context.Context, reference string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.removed = append(e.removed, reference)
	if _, ok := e.names[reference]; !ok {
		return puller.Errorf(puller.ErrNotFound, "no such image: %s", reference)
	}
	delete(e.names, reference)
	return nil
}

func (e *engine) Pull(ctx context.Context, p puller.Pull, each func(pullstream.Message)) error {
	e.mu.Lock()
	e.pulled = append(e.pulled, p.Image)
	blind, mirror, hub := e.blind, e.mirror, e.hub
	believed := true // what the mirror says that a tag stands for
	registry, _, _ := strings.Cut(p.Image, "/")
	if content, err := os.ReadFile(e.hosts); err == nil && !hosts.HasOwn(filepath.Dir(filepath.Dir(e.hosts)), registry) {
		_, rest, _ := strings.Cut(string(content), "http://")
		mirror, _, _ = strings.Cut(rest, `"`)
		believed = strings.Contains(string(content), `"resolve"`)
	}
	e.mu.Unlock()
	if e.onPull != nil {
		e.onPull(p.Image)
	}
	host, path, _ := strings.Cut(p.Image, "/")
	name, reference, isDigest := strings.Cut(path, "@")
	if !isDigest {
		name, reference, _ = strings.Cut(path, ":")
	}
	var get func(kind, id string) (io.ReadCloser, error)
	switch {
	case strings.HasPrefix(host, "127."):
		if blind {
			return puller.Errorf(puller.ErrRegistryUnavailable, "connection refused")
		}
		get = func(kind, id string) (io.ReadCloser, error) { return e.http(ctx, host, name, kind, id, "") }
	default:
		get = func(kind, id string) (io.ReadCloser, error) {
			if mirror != "" && !believed && !strings.HasPrefix(id, "sha256:") {
				content, err := read(e.registry.get(host+"/"+name, kind, id, "engine"))
				if err != nil {
					return nil, err
				}
				id = digest.FromBytes(content).String()
			}
			if mirror != "" {
				query := "?ns=" + host
				if hub {
					query = ""
				}
				// Where the answer is cut, it asks the mirror again, some times. It goes on with
				// the registry where the mirror refuses (Docker 28.5.2).
				for asked := 1; ; asked++ {
					content, err := e.http(ctx, mirror, name, kind, id, query)
					if err != nil {
						break
					}
					body, cut := read(content, nil)
					if cut == nil {
						return io.NopCloser(bytes.NewReader(body)), nil
					}
					if asked == 4 {
						return nil, cut
					}
				}
			}
			return e.registry.get(host+"/"+name, kind, id, "engine")
		}
	}
	if err := e.pull(ctx, p.Image, reference, get, each); err != nil {
		return puller.Errorf(puller.ErrRegistryUnavailable, "%w", err)
	}
	e.mu.Lock()
	pruned := e.pruned > 0
	if pruned {
		e.pruned--
		delete(e.names, p.Image)
	}
	e.mu.Unlock()
	if pruned {
		return puller.Errorf(puller.ErrTruncated, `error adding content digest to lease: lease "moby-image-sha256:404a": not found`)
	}
	each(pullstream.Message{Status: "Status: Downloaded newer image for " + p.Image})
	return nil
}

func (e *engine) http(ctx context.Context, host, name, kind, id, query string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/v2/"+name+"/"+kind+"/"+id+query, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("%s of %s: %s", kind, id, resp.Status)
	}
	return resp.Body, nil
}

func (e *engine) pull(ctx context.Context, reference, id string, get func(kind, id string) (io.ReadCloser, error), each func(pullstream.Message)) error {
	body, err := read(get("manifests", id))
	if err != nil {
		return err
	}
	found := digest.FromBytes(body).String()
	var m struct {
		Manifests []struct {
			Digest   string
			Platform struct{ OS, Architecture string }
		}
		Config struct{ Digest string }
		Layers []struct{ Digest string }
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return err
	}
	for _, child := range m.Manifests {
		if child.Platform.Architecture == "amd64" {
			if body, err = read(get("manifests", child.Digest)); err != nil {
				return err
			}
			if err := json.Unmarshal(body, &m); err != nil {
				return err
			}
		}
	}
	e.mu.Lock()
	known := e.layers[m.Config.Digest]
	e.layers[m.Config.Digest] = true
	e.mu.Unlock()
	if !known {
		if _, err := read(get("blobs", m.Config.Digest)); err != nil {
			return err
		}
	}
	var missing []string
	for _, l := range m.Layers {
		e.mu.Lock()
		there := e.layers[l.Digest]
		e.mu.Unlock()
		status := "Pulling fs layer"
		if there {
			status = "Already exists"
		} else if !slices.Contains(missing, l.Digest) {
			missing = append(missing, l.Digest)
		}
		each(pullstream.Message{ID: digest.Digest(l.Digest).Encoded()[:12], Status: status})
	}
	var wait sync.WaitGroup
	slots := make(chan struct{}, 3)
	failed := make([]error, len(missing))
	for i, layer := range missing {
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			failed[i] = e.bring(ctx, layer, func() error { return e.layer(reference, layer, get) })
		})
	}
	wait.Wait()
	if err := errors.Join(failed...); err != nil {
		return err
	}
	if e.onUnpack != nil {
		if err := e.onUnpack(reference); err != nil {
			return err
		}
	}
	for _, layer := range missing {
		each(pullstream.Message{ID: digest.Digest(layer).Encoded()[:12], Status: "Pull complete"})
	}
	each(pullstream.Message{Status: "Digest: " + found})
	e.mu.Lock()
	defer e.mu.Unlock()
	e.names[reference] = found
	return nil
}

// bringing is a layer that a pull brings.
type bringing struct {
	done chan struct{}
	err  error
}

// bring has a layer brought once for all pulls that want it at a time.
func (e *engine) bring(ctx context.Context, layer string, get func() error) error {
	e.mu.Lock()
	b, joined := e.bringing[layer]
	switch {
	case e.layers[layer]:
		e.mu.Unlock()
		return nil
	case !joined || e.info.ImageStore == puller.StoreContainerd:
		b, joined = &bringing{done: make(chan struct{})}, false
		e.bringing[layer] = b
	}
	e.mu.Unlock()
	if joined {
		select {
		case <-b.done:
			return b.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	b.err = get()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.bringing[layer] == b {
		delete(e.bringing, layer)
	}
	close(b.done)
	return b.err
}

func (e *engine) layer(reference, layer string, get func(kind, id string) (io.ReadCloser, error)) error {
	if e.onLayer != nil {
		e.onLayer(reference, layer)
	}
	body, err := get("blobs", layer)
	if err != nil {
		return err
	}
	defer body.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, body); err != nil {
		return err
	}
	if got := digest.NewDigest(digest.SHA256, sum).String(); got != layer {
		return fmt.Errorf("%s has the digest %s", layer, got)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.layers[layer] = true
	return nil
}

func read(body io.ReadCloser, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

func ignore(pullstream.Message) {}

func denied(context.Context, string, int64, int64) ([]byte, error) {
	return nil, puller.Errorf(puller.ErrDenied, "no")
}
