package api

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/towline/towline/puller"
)

// The versions of the Docker Engine API in whose form Docker's clients are
// answered, as what follows "1.". The pull is the same in all of them. A client
// that speaks a newer one goes down to the newest of these by itself.
const (
	oldestDocker = 24
	newestDocker = 51
)

// dockerPath takes the path of a request of Docker's API apart: the version
// that it begins with, "" for none, and the rest. ok is false for a path that is
// not Docker's: "/v1/jobs" is Towline's, "/v1.41/jobs" is not.
func dockerPath(path string) (version, rest string, ok bool) {
	first, below, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if v, found := strings.CutPrefix(first, "v"); found && strings.Contains(v, ".") && strings.Trim(v, "0123456789.") == "" {
		return v, "/" + below, true
	}
	return "", path, isDockers(first)
}

// isDockers reports whether a path's first part is one of the Docker Engine API
// (or of Podman's, which is served beside it).
func isDockers(name string) bool {
	switch name {
	case "_ping", "version", "info", "images", "auth", "build", "commit", "configs", "containers", "distribution", "events", "exec",
		"grpc", "libpod", "networks", "nodes", "plugins", "secrets", "services", "session", "swarm", "system", "tasks", "volumes":
		return true
	}
	return false
}

// withDocker answers the requests of Docker's clients, and leaves the others to
// next.
func (s *Server) withDocker(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		version, path, ok := dockerPath(r.URL.Path)
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		setDockerHeader(w.Header())
		err := checkDockerVersion(version)
		if err == nil {
			err = s.docker(w, r, path)
		}
		if err != nil {
			writeDockerProblem(w, problemOf(err))
		}
	})
}

// setDockerHeader sets what an engine's answers have.
func setDockerHeader(h http.Header) {
	h.Set("Api-Version", apiVersion(newestDocker))
	h.Set("Docker-Experimental", "false")
	h.Set("Ostype", "linux") // clients want to know it before an engine could be asked
	h.Set("Server", "Towline")
	h.Set("Cache-Control", "no-store")
}

func apiVersion(minor int) string { return "1." + strconv.Itoa(minor) }

// checkDockerVersion refuses versions in the words that clients know.
func checkDockerVersion(version string) error {
	if version == "" {
		return nil
	}
	first, second, _ := strings.Cut(version, ".")
	major, err1 := strconv.Atoi(first)
	minor, err2 := strconv.Atoi(second)
	switch {
	case err1 != nil || err2 != nil:
		return invalid("%q is not a version of Docker's API; write one such as v%s", version, apiVersion(newestDocker))
	case major < 1 || major == 1 && minor < oldestDocker:
		return invalid("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", version, apiVersion(oldestDocker))
	case major > 1 || minor > newestDocker:
		return invalid("client version %s is too new. Maximum supported API version is %s", version, apiVersion(newestDocker))
	}
	return nil
}

// docker answers one request; path is without the version.
func (s *Server) docker(w http.ResponseWriter, r *http.Request, path string) error {
	name, isImage := strings.CutPrefix(path, "/images/")
	name, isInspect := strings.CutSuffix(name, "/json")
	get := r.Method == http.MethodGet
	switch {
	case path == "/_ping" && (get || r.Method == http.MethodHead):
		return dockerPing(w)
	case path == "/version" && get:
		return s.dockerVersion(w, r)
	case path == "/info" && get:
		return s.dockerInfo(w, r)
	case path == "/images/create" && r.Method == http.MethodPost:
		return s.createImage(w, r)
	case isImage && isInspect && get:
		return s.inspectImage(w, r, name)
	}
	const served = "towline answers Docker's clients only what a pull needs: POST /images/create, GET /images/{name}/json, /info, /version and /_ping"
	// What is only read is not there: docker-compose goes on where there is no
	// network yet. But to docker run, a container that can't be made for want of
	// something says that its image is to be pulled first.
	kind := puller.ErrNotFound
	if !get && r.Method != http.MethodHead {
		kind = puller.ErrForbidden
	}
	return puller.Errorf(kind, "%s %s is not for towline; ask the engine itself (%s)", r.Method, path, served)
}
