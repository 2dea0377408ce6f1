// Package dockerapi serves the part of the Docker Engine API that a pull needs,
// so that Docker's clients and SDKs pull through Towline.
package dockerapi

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/towline/towline/puller"
)

// The oldest and the newest minor version of the Docker Engine API that is
// served. A pull is the same in all of them. A client that prefers a newer version
// falls back to newestVersion.
const (
	oldestVersion = 24
	newestVersion = 51
)

// Handler answers requests of Docker's clients. All its fields must be set.
type Handler struct {
	Service puller.Service
	// Caller returns the name of a request's caller and the caller's own rules.
	Caller func(*http.Request) (name string, rules puller.Rules)
	// Accepted is told of each job that a request has brought.
	Accepted func(*http.Request, puller.Job)
	// Problem returns the answer to a request that failed with an error.
	Problem func(error) Problem
}

// SplitPath splits the path of a request of the Docker Engine API into its version,
// "" for none, and the rest. ok is false for other paths: "/v1/jobs" is one,
// "/v1.41/jobs" is not.
func SplitPath(path string) (version, rest string, ok bool) {
	first, below, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if v, found := strings.CutPrefix(first, "v"); found && strings.Contains(v, ".") && strings.Trim(v, "0123456789.") == "" {
		return v, "/" + below, true
	}
	return "", path, isDockers(first)
}

// isDockers reports whether the first part of a path belongs to the Docker Engine
// API, or to Podman's API, which Podman serves beside it.
func isDockers(name string) bool {
	switch name {
	case "_ping", "version", "info", "images", "auth", "build", "commit", "configs", "containers", "distribution", "events", "exec",
		"grpc", "libpod", "networks", "nodes", "plugins", "secrets", "services", "session", "swarm", "system", "tasks", "volumes":
		return true
	}
	return false
}

// ServeHTTP answers a request. SplitPath must accept its path.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	version, path, _ := SplitPath(r.URL.Path)
	setHeader(w.Header())
	err := checkVersion(version)
	if err == nil {
		err = h.serve(w, r, path)
	}
	if err != nil {
		h.Problem(err).Write(w)
	}
}

// setHeader sets the header fields of an engine's answers.
func setHeader(h http.Header) {
	h.Set("Api-Version", apiVersion(newestVersion))
	h.Set("Docker-Experimental", "false")
	h.Set("Ostype", "linux") // clients read it even if the engine is away
	h.Set("Server", "Towline")
	h.Set("Cache-Control", "no-store")
}

func apiVersion(minor int) string { return "1." + strconv.Itoa(minor) }

func invalid(format string, args ...any) error {
	return puller.Errorf(puller.ErrInvalidRequest, format, args...)
}

// checkVersion refuses versions in dockerd's words, which clients know.
func checkVersion(version string) error {
	if version == "" {
		return nil
	}
	first, second, _ := strings.Cut(version, ".")
	major, err1 := strconv.Atoi(first)
	minor, err2 := strconv.Atoi(second)
	switch {
	case err1 != nil || err2 != nil:
		return invalid("%q is not a version of Docker's API; write one such as v%s", version, apiVersion(newestVersion))
	case major < 1 || major == 1 && minor < oldestVersion:
		return invalid("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", version, apiVersion(oldestVersion))
	case major > 1 || minor > newestVersion:
		return invalid("client version %s is too new. Maximum supported API version is %s", version, apiVersion(newestVersion))
	}
	return nil
}

// serve answers one request. path is without the version.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, path string) error {
	name, isImage := strings.CutPrefix(path, "/images/")
	name, isInspect := strings.CutSuffix(name, "/json")
	get := r.Method == http.MethodGet
	switch {
	case path == "/_ping" && (get || r.Method == http.MethodHead):
		return ping(w)
	case path == "/version" && get:
		return h.version(w, r)
	case path == "/info" && get:
		return h.info(w, r)
	case path == "/images/create" && r.Method == http.MethodPost:
		return h.createImage(w, r)
	case isImage && isInspect && get:
		return h.inspectImage(w, r, name)
	}
	const served = "towline answers Docker's clients only what a pull needs: POST /images/create, GET /images/{name}/json, /info, /version and /_ping"
	// A read is answered with not_found: docker-compose goes on if a network does not
	// exist yet. A write must not be: docker run takes not_found for a missing image.
	kind := puller.ErrNotFound
	if !get && r.Method != http.MethodHead {
		kind = puller.ErrForbidden
	}
	return puller.Errorf(kind, "%s %s is not for towline; ask the engine itself (%s)", r.Method, path, served)
}
