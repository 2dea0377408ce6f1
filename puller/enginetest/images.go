package enginetest

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/distribution/reference"
)

func (e *Engine) inspect(w http.ResponseWriter, r *http.Request) {
	name, ok := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/images/"), "/json")
	if !ok {
		refuse(w, http.StatusNotFound, "page not found")
		return
	}
	e.mu.Lock()
	e.inspects++
	hook, alter := e.inspectHook, e.alter
	e.mu.Unlock()
	if hook != nil {
		if status, message := hook(full(name), r.Context().Done()); status != 0 {
			refuse(w, status, message)
			return
		}
	}
	e.mu.Lock()
	if e.containerd {
		e.mu.Unlock()
		body, status, message := e.answerFromContainerd(name, r.URL.Query())
		if status != http.StatusOK {
			refuse(w, status, message)
			return
		}
		if alter != nil {
			alter(formal(name), body)
		}
		answer(w, status, body)
		return
	}
	image, found := e.images[full(name)]
	if i, ok := e.dangling[name]; ok {
		image, found = i, true
		image.RepoDigests = nil
	}
	for tag, i := range e.images {
		if i.ID == name {
			image, found, name = i, true, tag
			break
		}
	}
	podman := e.podman
	if _, _, digest := cutTag(name); podman && !found && digest != "" {
		image, found = e.byDigest(digest)
	}
	tags := []string{}
	for tag, i := range e.images {
		if found && i.ID == image.ID && !strings.Contains(tag, "@") {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	e.mu.Unlock()
	if !found {
		refuse(w, http.StatusNotFound, "No such image: "+name)
		return
	}
	if len(image.RepoTags) == 0 { // removed after the image was found
		tags = nil
	}
	parts := append(strings.Split(image.Platform, "/"), "", "")
	if podman {
		parts[2] = ""
	}
	body := map[string]any{
		"Id": image.ID, "RepoDigests": image.RepoDigests, "RepoTags": tags,
		"Os": parts[0], "Architecture": parts[1], "Variant": parts[2], "OsVersion": image.OSVersion, "Size": image.Size,
		"RootFS": map[string]any{"Type": "layers", "Layers": image.DiffIDs},
	}
	if alter != nil {
		alter(full(name), body)
	}
	answer(w, http.StatusOK, body)
}

func (e *Engine) create(w http.ResponseWriter, r *http.Request) {
	image, err := requested(r.URL.Query())
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	e.mu.Lock()
	script := e.scripts[image]
	e.pulls++
	e.active++
	e.auth = r.Header.Get("X-Registry-Auth")
	e.mu.Unlock()
	p := &Pull{Image: image, Platform: r.URL.Query().Get("platform"), engine: e, w: w, r: r}
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.active--
		if r.Context().Err() != nil || p.cutOff {
			e.aborted++
		}
	}()
	if script == nil {
		p.Refuse(http.StatusNotFound, "manifest for "+image+" not found: manifest unknown: manifest unknown")
		return
	}
	script(p)
}

// requested returns the reference of fromImage and tag in full form.
func requested(q url.Values) (string, error) {
	name, tag := q.Get("fromImage"), q.Get("tag")
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", err
	}
	switch {
	case strings.Contains(tag, ":"):
		return full(named.Name() + "@" + tag), nil
	case tag != "":
		return full(named.Name() + ":" + tag), nil
	}
	return full(name), nil
}

// cutTag splits a reference in full form.
func cutTag(image string) (name, tag, digest string) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		panic("enginetest: " + image + ": " + err.Error())
	}
	if t, ok := named.(reference.Tagged); ok {
		tag = t.Tag()
	}
	if d, ok := named.(reference.Digested); ok {
		digest = d.Digest().String()
	}
	return named.Name(), tag, digest
}
