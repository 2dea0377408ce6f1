package enginetest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// containerRoutes adds the calls about containers.
func (e *Engine) containerRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /containers/create", e.createContainer)
	mux.HandleFunc("GET /containers/json", e.listContainers)
	for pattern, handler := range map[string]func(http.ResponseWriter, *http.Request, *container){
		"POST /containers/{id}/start":  e.startContainer,
		"POST /containers/{id}/attach": e.attachContainer,
		"POST /containers/{id}/wait":   e.waitContainer,
		"GET /containers/{id}/logs":    e.containerLogs,
		"POST /containers/{id}/stop":   e.stopContainer,
		"POST /containers/{id}/kill":   e.killContainer,
		"GET /containers/{id}/json":    e.inspectContainer,
		"DELETE /containers/{id}":      e.removeContainer,
	} {
		call := pattern[strings.LastIndex(pattern, "/")+1:]
		switch call {
		case "json":
			call = "inspect"
		case "{id}":
			call = "remove"
		}
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			id := r.PathValue("id")
			if e.answeredByHook(w, r, call, id) {
				return
			}
			c := e.find(id)
			if c == nil {
				refuse(w, http.StatusNotFound, "No such container: "+id)
				return
			}
			handler(w, r, c)
		})
	}
}

// answeredByHook runs the hook and reports whether it has answered.
func (e *Engine) answeredByHook(w http.ResponseWriter, r *http.Request, call, id string) bool {
	e.mu.Lock()
	hook := e.containerHook
	e.mu.Unlock()
	if hook == nil {
		return false
	}
	status, message := hook(call, id, r.Context().Done())
	if status != 0 {
		refuse(w, status, message)
	}
	return status != 0
}

func (e *Engine) createContainer(w http.ResponseWriter, r *http.Request) {
	var asked ContainerRequest
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	io.Copy(io.Discard, r.Body) // only after the body, net/http notices that the client has gone
	if e.answeredByHook(w, r, "create", "") {
		return
	}
	asked.Platform, asked.Name = r.URL.Query().Get("platform"), r.URL.Query().Get("name")
	e.creating.Lock()
	defer e.creating.Unlock()
	for _, c := range e.Containers() {
		if asked.Name == c.Name {
			refuse(w, http.StatusConflict, fmt.Sprintf("Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.", "/"+asked.Name, c.ID))
			return
		}
	}
	target, manifest, status, message := e.imageForContainer(asked)
	e.mu.Lock()
	warnings := e.warnings
	e.mu.Unlock()
	switch memory := asked.HostConfig.Memory; {
	case status != 0:
		refuse(w, status, message)
	case memory != 0 && memory < 6<<20:
		refuse(w, http.StatusBadRequest, "Minimum memory limit allowed is 6MB")
	default:
		c := e.newContainer(asked, target, manifest)
		e.mu.Lock()
		dropAnswer := e.dropAnswer
		e.dropAnswer = false
		e.mu.Unlock()
		if dropAnswer {
			panic(http.ErrAbortHandler)
		}
		answer(w, http.StatusCreated, e.altered("create", map[string]any{"Id": c.id, "Warnings": append([]string{}, warnings...)}))
	}
}

func (e *Engine) startContainer(w http.ResponseWriter, r *http.Request, c *container) {
	if !e.launch(c) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (e *Engine) stopContainer(w http.ResponseWriter, r *http.Request, c *container) {
	c.mu.Lock()
	running := c.status == "running"
	c.mu.Unlock()
	if !running {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	seconds, err := strconv.Atoi(r.URL.Query().Get("t"))
	if err != nil {
		seconds = 10
	}
	e.stop(c, time.Duration(seconds)*time.Second)
	w.WriteHeader(http.StatusNoContent)
}

func (e *Engine) killContainer(w http.ResponseWriter, r *http.Request, c *container) {
	c.exit(137, true)
	w.WriteHeader(http.StatusNoContent)
}

func (e *Engine) removeContainer(w http.ResponseWriter, r *http.Request, c *container) {
	c.mu.Lock()
	running := c.status == "running"
	c.mu.Unlock()
	if running && r.URL.Query().Get("force") == "" {
		refuse(w, http.StatusConflict, "You cannot remove a running container "+c.id+". Stop the container before attempting removal or force remove")
		return
	}
	e.drop(c)
	w.WriteHeader(http.StatusNoContent)
}

// waitContainer sends the headers at once and the body when the condition is met.
func (e *Engine) waitContainer(w http.ResponseWriter, r *http.Request, c *container) {
	gone := r.Context().Done()
	w.Header().Set("Content-Type", "application/json")
	w.(http.Flusher).Flush()
	switch r.URL.Query().Get("condition") {
	case "removed":
		select {
		case <-c.removed:
		case <-gone:
			return
		}
	case "next-exit":
		if !c.until(gone, func() bool { return c.status == "exited" }) {
			return
		}
	default:
		if !c.until(gone, func() bool { return c.status != "running" }) {
			return
		}
	}
	c.mu.Lock()
	body := map[string]any{"StatusCode": c.code, "Error": nil}
	c.mu.Unlock()
	json.NewEncoder(w).Encode(e.altered("wait", body))
}

// attachContainer switches the connection to a raw stream of the output from now on.
func (e *Engine) attachContainer(w http.ResponseWriter, r *http.Request, c *container) {
	c.mu.Lock()
	from := len(c.printed)
	c.mu.Unlock()
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	defer e.hold(conn)()
	fmt.Fprint(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		io.Copy(io.Discard, conn)
	}()
	if raw := e.streamOverride("attach"); raw != nil {
		conn.Write(raw)
	} else {
		writeOutput(conn, func() {}, c, from, true, gone, r)
	}
	e.mu.Lock()
	hold := e.holdStreams
	e.mu.Unlock()
	if hold {
		<-gone
	}
	conn.Close()
	<-gone
}

func (e *Engine) containerLogs(w http.ResponseWriter, r *http.Request, c *container) {
	follow := r.URL.Query().Get("follow") != ""
	w.Header().Set("Content-Type", "application/vnd.docker.raw-stream")
	flush := w.(http.Flusher).Flush
	flush()
	if raw := e.streamOverride("logs"); raw != nil {
		w.Write(raw)
		return
	}
	writeOutput(w, flush, c, 0, follow, r.Context().Done(), r)
}

// writeOutput writes a container's output, from the piece with this index. With follow, it
// goes on until the exit.
func writeOutput(w io.Writer, flush func(), c *container, from int, follow bool, gone <-chan struct{}, r *http.Request) {
	wanted := map[byte]bool{1: r.URL.Query().Get("stdout") != "", 2: r.URL.Query().Get("stderr") != ""}
	for {
		var pieces []piece
		over := false
		if !c.until(gone, func() bool {
			pieces, over = c.printed[from:], c.status == "exited" || !follow
			return len(pieces) > 0 || over
		}) {
			return
		}
		for _, p := range pieces {
			if !wanted[p.stream] {
				continue
			}
			if !c.requested.Tty {
				header := [8]byte{p.stream}
				binary.BigEndian.PutUint32(header[4:], uint32(len(p.bytes)))
				w.Write(header[:])
			}
			if _, err := w.Write(p.bytes); err != nil {
				return
			}
		}
		flush()
		from += len(pieces)
		if over {
			return
		}
	}
}

func (e *Engine) listContainers(w http.ResponseWriter, r *http.Request) {
	if e.answeredByHook(w, r, "list", "") {
		return
	}
	var filters struct{ Label map[string]bool }
	if text := r.URL.Query().Get("filters"); text != "" {
		if err := json.Unmarshal([]byte(text), &filters); err != nil {
			refuse(w, http.StatusBadRequest, err.Error())
			return
		}
	}
	list := []any{}
	for _, c := range e.Containers() {
		matches := r.URL.Query().Get("all") != "" || c.Status == "running"
		for label := range filters.Label {
			name, value, valued := strings.Cut(label, "=")
			have, ok := c.Labels[name]
			matches = matches && ok && (!valued || have == value)
		}
		if matches {
			list = append(list, map[string]any{"Id": c.ID, "Names": []string{"/" + c.Name}, "Image": c.Requested.Image, "ImageID": c.Image, "Created": c.Created.Unix(), "Labels": c.Labels, "State": c.Status})
		}
	}
	answer(w, http.StatusOK, e.altered("list", list))
}

func (e *Engine) inspectContainer(w http.ResponseWriter, r *http.Request, c *container) {
	e.mu.Lock()
	hasManifest := c.manifest != "" && e.api[0] >= 48
	e.mu.Unlock()
	c.mu.Lock()
	body := map[string]any{
		"Id": c.id, "Name": "/" + c.name, "Image": c.image,
		"State": map[string]any{
			"Status": c.status, "Running": c.status == "running", "ExitCode": c.code, "OOMKilled": c.oomKilled, "Error": "",
			"StartedAt": c.started.UTC(), "FinishedAt": c.finished.UTC(),
		},
		"Config": map[string]any{"Tty": c.requested.Tty, "Labels": c.labels},
	}
	if hasManifest {
		body["ImageManifestDescriptor"] = map[string]any{"digest": c.manifest, "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 737}
	}
	c.mu.Unlock()
	answer(w, http.StatusOK, e.altered("inspect", body))
}
