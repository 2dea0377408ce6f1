package enginetest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/towline/towline/puller"
)

// MakeFrom says that an image was built from another one, both by ID.
func (e *Engine) MakeFrom(image, parent string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.madeFrom[image] = parent
}

// SetBusy makes the engine refuse to measure its disk usage, as one does that is at it.
func (e *Engine) SetBusy(busy bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.busy = busy
}

// OnRemoveImage sets a hook that runs before an image or a name is removed by a call.
func (e *Engine) OnRemoveImage(hook func(name string)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.onRemove = hook
}

// AddEvent adds an event of an image, as another client causes it.
func (e *Engine) AddEvent(action, id, name string) { e.events.add("image", action, id, name) }

// Has reports whether the engine has an image under a name or an ID.
func (e *Engine) Has(image string) bool { return e.IDOf(image) != "" }

// IDOf returns the ID of the image that has a name or an ID, "" for none.
func (e *Engine) IDOf(image string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.dangling[image]; ok {
		return image
	}
	if strings.HasPrefix(image, "sha256:") {
		if len(e.namedAs(image)) > 0 {
			return image
		}
		return ""
	}
	name := full(image)
	if i, ok := e.images[name]; ok {
		return e.idOf(i)
	}
	if i, _, ok := e.byRepoDigest(name); ok {
		return e.idOf(i)
	}
	return ""
}

// byRepoDigest finds the image that has NAME@DIGEST, and a name of it in that repository.
func (e *Engine) byRepoDigest(name string) (i puller.Image, tag string, ok bool) {
	repository, _, digest := cutTag(name)
	for tag, i := range e.images {
		if of, _, _ := cutTag(tag); digest != "" && of == repository && slices.Contains(i.RepoDigests, repository+"@"+digest) {
			return i, tag, true
		}
	}
	return i, "", false
}

// NamesOf returns the names of an image, sorted.
func (e *Engine) NamesOf(id string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.namedAs(id)
}

// Stored returns how many bytes the images have, each layer counted once.
func (e *Engine) Stored() (bytes int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	layers := make(map[string]int64)
	add := func(i puller.Image) {
		for _, layer := range i.DiffIDs {
			layers[layer] = i.Size / int64(len(i.DiffIDs))
		}
	}
	for _, i := range e.images {
		add(i)
	}
	for _, i := range e.dangling {
		add(i)
	}
	for _, size := range layers {
		bytes += size
	}
	return bytes
}

// idOf returns an image's ID. The caller holds the lock, here and below.
func (e *Engine) idOf(i puller.Image) string {
	if e.containerd {
		return e.targetOf(i)
	}
	return i.ID
}

// namedAs returns the names of an image, sorted.
func (e *Engine) namedAs(id string) (names []string) {
	for name, i := range e.images {
		if e.idOf(i) == id {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// untag removes a name, and with its last name the image.
func (e *Engine) untag(name string) {
	i, found := e.images[name]
	if !found {
		return
	}
	delete(e.images, name)
	id := e.idOf(i)
	e.events.add("image", "untag", id, name)
	if len(e.namedAs(id)) == 0 {
		e.events.add("image", "delete", id, "")
	}
}

// listed is an image in the answers to GET /images/json and /system/df.
type listed struct {
	ID                    string `json:"Id"`
	ParentID              string `json:"ParentId"`
	RepoTags, RepoDigests []string
	Created               int64
	Size, SharedSize      int64
	Manifests             []any `json:",omitempty"`
}

// all returns each image once, with all its names. Each layer has an equal part of its
// image's size.
func (e *Engine) all(shared bool) []listed {
	all, users, names := make(map[string]puller.Image), make(map[string]int), make(map[string][]string)
	for name, i := range e.images {
		id := e.idOf(i)
		all[id] = i
		names[id] = append(names[id], name)
	}
	for id, i := range e.dangling {
		all[id] = i
	}
	for _, i := range all {
		for _, layer := range i.DiffIDs {
			users[layer]++
		}
	}
	list := []listed{}
	for id, i := range all {
		l := listed{ID: id, ParentID: e.madeFrom[id], Created: 1_700_000_000, Size: i.Size, SharedSize: -1}
		_, dangling := e.dangling[id]
		slices.Sort(names[id])
		for _, name := range names[id] {
			if strings.Contains(name, "@") {
				l.RepoDigests = append(l.RepoDigests, name)
			} else {
				l.RepoTags = append(l.RepoTags, name)
			}
		}
		if dangling {
			l.RepoTags, l.RepoDigests = []string{"<none>:<none>"}, []string{"<none>@<none>"}
		} else {
			l.RepoDigests = append(l.RepoDigests, i.RepoDigests...)
		}
		if shared {
			l.SharedSize = 0
			for _, layer := range i.DiffIDs {
				if users[layer] > 1 {
					l.SharedSize += i.Size / int64(len(i.DiffIDs))
				}
			}
		}
		if shared && e.containerd {
			l.Manifests, l.Size, l.SharedSize = e.summaries(i), i.Size, l.SharedSize/2
		}
		list = append(list, l)
	}
	slices.SortFunc(list, func(a, b listed) int { return strings.Compare(a.ID, b.ID) })
	return list
}

func (e *Engine) list(w http.ResponseWriter, r *http.Request) {
	if e.answeredByHook(w, r, "images", "") {
		return
	}
	e.mu.Lock()
	all := e.all(r.URL.Query().Get("shared-size") != "" && e.api[0] >= 42)
	e.mu.Unlock()
	answer(w, http.StatusOK, e.altered("images", all))
}

func (e *Engine) diskUsage(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.busy {
		refuse(w, http.StatusInternalServerError, "a disk usage operation is already running")
		return
	}
	answer(w, http.StatusOK, map[string]any{"Images": e.all(true)})
}

// removeImage removes a name or an image without names. An image that a container or
// another image needs stays.
func (e *Engine) removeImage(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/images/")
	e.mu.Lock()
	hook := e.onRemove
	e.mu.Unlock()
	if hook != nil {
		hook(name)
	}
	containers := e.Containers()
	e.mu.Lock()
	defer e.mu.Unlock()
	if i, ok := e.dangling[name]; ok {
		if user := e.userOf(name, containers); user != "" {
			refuse(w, http.StatusConflict, fmt.Sprintf("conflict: unable to delete %.12s (must be forced) - %s", name, user))
			return
		}
		delete(e.dangling, name)
		e.events.add("image", "delete", e.idOf(i), "")
		answer(w, http.StatusOK, []any{map[string]string{"Deleted": name}})
		return
	}
	if strings.HasPrefix(name, "sha256:") {
		refuse(w, http.StatusNotFound, "No such image: "+name)
		return
	}
	name = full(name)
	i, found := e.images[name]
	if !found {
		if other, tag, ok := e.byRepoDigest(name); ok {
			name, i, found = tag, other, true
		}
	}
	if !found {
		refuse(w, http.StatusNotFound, "No such image: "+name)
		return
	}
	id := e.idOf(i)
	if user := e.userOf(id, containers); user != "" && len(e.namedAs(id)) == 1 {
		refuse(w, http.StatusConflict, fmt.Sprintf("conflict: unable to remove repository reference %q (must force) - %s", name, user))
		return
	}
	e.untag(name)
	answer(w, http.StatusOK, []any{map[string]string{"Untagged": name}})
}

// userOf names what needs an image, "" for nothing.
func (e *Engine) userOf(id string, containers []ContainerSeen) string {
	for _, c := range containers {
		if c.Image == id {
			return fmt.Sprintf("container %.12s is using its referenced image %.12s", c.ID, id)
		}
	}
	for child, parent := range e.madeFrom {
		if _, dangling := e.dangling[child]; parent == id && (dangling || len(e.namedAs(child)) > 0) {
			return "image has dependent child images"
		}
	}
	return ""
}
