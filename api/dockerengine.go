package api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/towline/towline/puller"
)

// What Docker's clients ask before a pull and after it, in the form of the
// Docker Engine API. Of what Towline does not know there is nothing in it.

// dockerPing says that Towline is there. It does not ask the engine: a pull
// waits for one that is away.
func dockerPing(w http.ResponseWriter) error {
	w.Header().Set("Cache-Control", "no-cache, no-store, must-revalidate")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, "OK")
	return nil
}

// engineInfo asks the engine what it is.
func (s *Server) engineInfo(r *http.Request) (info puller.EngineInfo, os, arch string, err error) {
	ctx, cancel := context.WithTimeout(r.Context(), engineLimit)
	defer cancel()
	if info, err = s.puller.Engine(ctx); err != nil {
		return info, "", "", puller.Errorf(puller.ErrEngineUnavailable, "%w", err)
	}
	os, arch, _ = strings.Cut(info.Platform, "/")
	return info, os, arch, nil
}

// dockerVersion is GET /version: the engine's, and the versions of the API that
// are spoken here.
func (s *Server) dockerVersion(w http.ResponseWriter, r *http.Request) error {
	info, os, arch, err := s.engineInfo(r)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		Platform                                     struct{ Name string }
		Version, ApiVersion, MinAPIVersion, Os, Arch string
	}{struct{ Name string }{"Towline"}, info.Version, apiVersion(newestDocker), apiVersion(oldestDocker), os, arch})
}

// dockerInfo is GET /info. Clients look for the registry that names without a
// host are of, to find the credentials for it.
func (s *Server) dockerInfo(w http.ResponseWriter, r *http.Request) error {
	info, os, arch, err := s.engineInfo(r)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		Name, ServerVersion, Driver, OSType, Architecture, IndexServerAddress string
	}{"towline", info.Version, info.ImageStore, os, arch, "https://index.docker.io/v1/"})
}

// inspectImage is GET /images/{name}/json. What may not be pulled may not be
// inspected.
func (s *Server) inspectImage(w http.ResponseWriter, r *http.Request, name string) error {
	_, rules := caller(r)
	platform, err := dockerPlatform(r.URL.Query().Get("platform"))
	if err != nil {
		return err
	}
	found, err := s.puller.Image(r.Context(), name, platform, rules)
	if err != nil {
		return err
	}
	parts := strings.SplitN(found.Platform+"//", "/", 4)
	type layers struct {
		Type   string
		Layers []string
	}
	return writeJSON(w, http.StatusOK, struct {
		ID                    string `json:"Id"`
		RepoTags, RepoDigests []string
		Os, Architecture      string
		Variant               string `json:",omitempty"`
		Size                  int64
		RootFS                layers
	}{found.ID, found.RepoTags, found.RepoDigests, parts[0], parts[1], parts[2], found.Size, layers{"layers", found.DiffIDs}})
}

// dockerPlatform returns the platform that an inspect is for: JSON of an OCI
// platform (Docker Engine API 1.49, ImageInspect).
func dockerPlatform(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	var p struct{ OS, Architecture, Variant string }
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return "", invalid("platform: not JSON of a platform, such as {\"os\": \"linux\", \"architecture\": \"amd64\"}")
	}
	return puller.ParsePlatform(strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/"), "")
}
