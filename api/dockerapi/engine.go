package dockerapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/platforms"
)

// engineLimit is how long the engine may take to say what it is.
const engineLimit = 3 * time.Second

// ping answers for Towline. It does not ask the engine, because a pull waits for
// an engine that is away.
func ping(w http.ResponseWriter) error {
	w.Header().Set("Cache-Control", "no-cache, no-store, must-revalidate")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, "OK")
	return nil
}

// engine asks the engine what it is.
func (h *Handler) engine(r *http.Request) (info puller.EngineInfo, os, arch string, err error) {
	ctx, cancel := context.WithTimeout(r.Context(), engineLimit)
	defer cancel()
	if info, err = h.Service.Engine(ctx); err != nil {
		return info, "", "", puller.Errorf(puller.ErrEngineUnavailable, "%w", err)
	}
	os, arch, _ = strings.Cut(info.Platform, "/")
	return info, os, arch, nil
}

// version is GET /version: the engine's version, and the served versions of the API.
func (h *Handler) version(w http.ResponseWriter, r *http.Request) error {
	info, os, arch, err := h.engine(r)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, struct {
		Platform                                     struct{ Name string }
		Version, ApiVersion, MinAPIVersion, Os, Arch string
	}{struct{ Name string }{"Towline"}, info.Version, apiVersion(newestVersion), apiVersion(oldestVersion), os, arch})
	return nil
}

// info is GET /info. Clients look up their credentials for names without a
// registry under IndexServerAddress.
func (h *Handler) info(w http.ResponseWriter, r *http.Request) error {
	info, os, arch, err := h.engine(r)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, struct {
		Name, ServerVersion, Driver, OSType, Architecture, IndexServerAddress string
	}{"towline", info.Version, info.ImageStore, os, arch, "https://index.docker.io/v1/"})
	return nil
}

// inspectImage is GET /images/{name}/json. A caller may inspect what the caller may
// pull.
func (h *Handler) inspectImage(w http.ResponseWriter, r *http.Request, name string) error {
	_, rules := h.Caller(r)
	platform, err := parsePlatform(r.URL.Query().Get("platform"))
	if err != nil {
		return err
	}
	found, err := h.Service.Image(r.Context(), name, platform, rules)
	if err != nil {
		return err
	}
	parts := strings.SplitN(found.Platform+"//", "/", 4)
	type layers struct {
		Type   string
		Layers []string
	}
	writeJSON(w, http.StatusOK, struct {
		ID                    string `json:"Id"`
		RepoTags, RepoDigests []string
		Os, Architecture      string
		Variant               string `json:",omitempty"`
		Size                  int64
		RootFS                layers
	}{found.ID, found.RepoTags, found.RepoDigests, parts[0], parts[1], parts[2], found.Size, layers{"layers", found.DiffIDs}})
	return nil
}

// parsePlatform parses the platform of an inspect: JSON of an OCI platform (Docker
// Engine API 1.49, ImageInspect). It returns "" for none.
func parsePlatform(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	var p struct{ OS, Architecture, Variant string }
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return "", invalid("platform: not JSON of a platform, such as {\"os\": \"linux\", \"architecture\": \"amd64\"}")
	}
	return platforms.Parse(strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/"), "")
}
