package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Engine is a Docker engine that answers, either one that was there before or a
// private one that [Private] started.
type Engine struct {
	// Host is the engine's address as DOCKER_HOST has it: "unix:///path", or
	// "tcp://host:port". It stays the same over Stop and Start.
	Host string

	client *http.Client
	own    *daemon // nil: not ours to stop
}

// Find returns the first engine that answers GET /_ping within two seconds: the one
// DOCKER_HOST names, then /var/run/docker.sock; and else a private one in dir (see
// [Private]). logf may be nil; it is told what was tried. DOCKER_HOST is understood
// with unix, tcp and http addresses, without TLS.
//
// A found engine may sit on another machine or hold somebody's images: use it with
// references of one's own, and only where a registry on 127.0.0.1 is in its reach.
func Find(ctx context.Context, dir string, logf func(string, ...any)) (*Engine, error) {
	if logf == nil {
		logf = func(string, ...any) {}
	}
	for _, host := range []string{os.Getenv("DOCKER_HOST"), "unix:///var/run/docker.sock"} {
		if host == "" {
			continue
		}
		engine, err := dial(host)
		if err == nil {
			pingCtx, cancel := context.WithTimeout(ctx, 2*time.Second)
			err = engine.Ping(pingCtx)
			cancel()
		}
		if err == nil {
			logf("engine: using %s", host)
			return engine, nil
		}
		logf("engine: none answers at %s", host)
	}
	logf("engine: starting a private one, which ends with this command")
	return Private(ctx, dir, PrivateOptions{Logf: logf})
}

// dial makes the client for an engine, and does not connect yet.
func dial(host string) (*Engine, error) {
	scheme, address, ok := strings.Cut(host, "://")
	if !ok || address == "" {
		return nil, fmt.Errorf("lab: %q is no engine address", host)
	}
	network := "tcp"
	switch scheme {
	case "unix":
		network = "unix"
	case "tcp", "http":
	default:
		return nil, fmt.Errorf("lab: engine address %q: scheme not supported", host)
	}
	return &Engine{Host: host, client: socketClient(network, address)}, nil
}

// socketClient sends every request to one address, whatever its URL says. It keeps
// no idle connection, so that neither side holds a goroutine for it between calls.
func socketClient(network, address string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, address)
		},
	}}
}

// Private tells whether the engine is our own, to be stopped, killed and paused.
func (e *Engine) Private() bool { return e.own != nil }

// Do sends one request to the engine's API and returns its answer as it is, whatever
// the status; the caller closes the body. target is path and query, with or
// without a version ("/images/create?fromImage=…"); header and body may be nil.
func (e *Engine) Do(ctx context.Context, method, target string, header http.Header, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://engine"+target, body)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	return e.client.Do(req)
}

// Ping asks GET /_ping once; nil means that the engine answers.
func (e *Engine) Ping(ctx context.Context) error {
	return e.call(ctx, http.MethodGet, "/_ping", nil)
}

// ImageID returns the engine's ID of the image that ref names, "" if it has none
// such. In the containerd image store that is the digest of a manifest, elsewhere
// of a config.
func (e *Engine) ImageID(ctx context.Context, ref string) (string, error) {
	var image struct{ ID string }
	err := e.call(ctx, http.MethodGet, "/images/"+(&url.URL{Path: ref}).EscapedPath()+"/json", &image)
	if isNotFound(err) {
		return "", nil
	}
	return image.ID, err
}

// Digests returns the names with digests that the engine has for an image, NAME@DIGEST.
func (e *Engine) Digests(ctx context.Context, ref string) ([]string, error) {
	var image struct{ RepoDigests []string }
	err := e.call(ctx, http.MethodGet, "/images/"+(&url.URL{Path: ref}).EscapedPath()+"/json", &image)
	return image.RepoDigests, err
}

// HasImage tells whether the engine has an image under ref.
func (e *Engine) HasImage(ctx context.Context, ref string) (bool, error) {
	id, err := e.ImageID(ctx, ref)
	return id != "", err
}

// RemoveImage removes ref, by force; that it is absent is no error.
func (e *Engine) RemoveImage(ctx context.Context, ref string) error {
	err := e.call(ctx, http.MethodDelete, "/images/"+(&url.URL{Path: ref}).EscapedPath()+"?force=1", nil)
	if isNotFound(err) {
		return nil
	}
	return err
}

// Goroutines returns how many goroutines dockerd runs, as it says itself. The call's
// own connection is among them.
func (e *Engine) Goroutines(ctx context.Context) (int, error) {
	var info struct{ NGoroutines int }
	err := e.call(ctx, http.MethodGet, "/info", &info)
	return info.NGoroutines, err
}

// call sends a request without a body, reads the answer to its end, and decodes it
// into answer unless that is nil. A status of 400 and more is a *statusError.
func (e *Engine) call(ctx context.Context, method, target string, answer any) error {
	resp, err := e.Do(ctx, method, target, nil, nil)
	if err != nil {
		return fmt.Errorf("lab: engine: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("lab: engine: %s %s: %w", method, target, err)
	}
	if resp.StatusCode >= 400 {
		return &statusError{code: resp.StatusCode, text: fmt.Sprintf("lab: engine: %s %s: %s: %s",
			method, target, resp.Status, strings.TrimSpace(string(body)))}
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("lab: engine: %s %s: %w", method, target, err)
	}
	return nil
}
