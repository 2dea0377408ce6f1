// Package enginetest has a scripted engine and the conformance suite for engines, which the
// scripted engine and real engines pass.
//
// The scripted engine serves Docker's API on connections in memory, so that a test runs all
// of Towline but the engine, under testing/synctest.
package enginetest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"testing"

	"github.com/distribution/reference"
	"github.com/docker/go-connections/sockets"

	"github.com/towline/towline/puller"
)

// An Engine is a scripted engine. Its methods may be called from anywhere.
type Engine struct {
	socket *sockets.InmemSocket
	server *http.Server

	mu          sync.Mutex
	images      map[string]puller.Image // by reference in full form
	dangling    map[string]puller.Image // whose last name was given to another image, by ID
	madeFrom    map[string]string       // an image's parent, both by ID
	busy        bool                    // with its disk usage
	onRemove    func(name string)
	scripts     map[string]Script
	inspectHook InspectHook
	alter       func(image string, answer map[string]any)
	podman      bool
	// Of the containerd image store:
	containerd bool
	indexes    map[string]Index          // by digest
	content    map[string]puller.Content // by the digest of a manifest
	down       bool
	closed     bool // accepts no connections
	frozen     bool
	api        [2]int // the newest and the oldest API version, after "1."
	machine    string
	root       string
	conns      map[net.Conn]bool
	pulls      int
	active     int
	aborted    int
	inspects   int
	auth       string
	// dialed counts connections since the start.
	dialed int

	creating        sync.Mutex   // makes names unique
	containers      []*container // oldest first
	created         int
	programs        map[string]Program           // by image ID
	labels          map[string]map[string]string // the same
	programsRunning sync.WaitGroup
	containerHook   ContainerHook
	containerAnswer func(call string, answer any) any
	stream          func(call string) []byte
	logDrivers      []string
	warnings        []string
	events          eventLog
	dropAnswer      bool              // to the next create call
	holdStreams     bool              // after the container's exit
	attached        map[net.Conn]bool // connections that were switched to a raw stream
}

// New starts a scripted engine without images or scripts. The end of the test stops it.
func New(t testing.TB) *Engine {
	e := &Engine{
		socket:   sockets.NewInmemSocket("engine", 0),
		images:   make(map[string]puller.Image),
		dangling: make(map[string]puller.Image), madeFrom: make(map[string]string),
		scripts: make(map[string]Script),
		conns:   make(map[net.Conn]bool),
		indexes: make(map[string]Index),
		content: make(map[string]puller.Content),
		api:     [2]int{41, 12},

		programs: make(map[string]Program), labels: make(map[string]map[string]string), attached: make(map[net.Conn]bool), logDrivers: []string{"local", "json-file"},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", e.ping)
	mux.HandleFunc("GET /version", e.version)
	mux.HandleFunc("GET /info", e.info)
	mux.HandleFunc("POST /images/create", e.create)
	mux.HandleFunc("GET /images/json", e.list)
	mux.HandleFunc("GET /images/", e.inspect)
	mux.HandleFunc("DELETE /images/", e.removeImage)
	mux.HandleFunc("GET /system/df", e.diskUsage)
	mux.HandleFunc("GET /events", e.listEvents)
	e.containerRoutes(mux)
	e.server = &http.Server{Handler: e.front(mux), ConnState: e.track}
	var serving sync.WaitGroup
	serving.Go(func() { e.server.Serve(e.socket) })
	t.Cleanup(func() {
		e.server.Close()
		e.endContainers()
		serving.Wait()
	})
	return e
}

// front removes the API version from the path and refuses versions that the engine does not
// have.
func (e *Engine) front(next http.Handler) http.Handler {
	version := regexp.MustCompile(`^/v1\.(\d+)/`)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		frozen, api := e.frozen, e.api
		e.mu.Unlock()
		if frozen {
			io.Copy(io.Discard, r.Body) // only after the body, net/http notices that the client has gone
			<-r.Context().Done()
			return
		}
		if v := version.FindStringSubmatch(r.URL.Path); v != nil {
			switch minor, _ := strconv.Atoi(v[1]); {
			case minor < api[1]:
				refuse(w, http.StatusBadRequest, fmt.Sprintf("client version 1.%d is too old. Minimum supported API version is 1.%d, please upgrade your client to a newer version", minor, api[1]))
				return
			case minor > api[0]:
				refuse(w, http.StatusBadRequest, fmt.Sprintf("client version 1.%d is too new. Maximum supported API version is 1.%d", minor, api[0]))
				return
			}
		}
		r.URL.Path = version.ReplaceAllString(r.URL.Path, "/")
		next.ServeHTTP(w, r)
	})
}

// SetAPI sets the newest and the oldest API version of the engine, without the "1.". The
// defaults are 1.41 and 1.12.
func (e *Engine) SetAPI(newest, oldest int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.api = [2]int{newest, oldest}
}

// SetRoot sets the engine's host name and image directory. Both are empty by default.
func (e *Engine) SetRoot(machine, dir string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.machine, e.root = machine, dir
}

// Freeze makes the engine accept connections and calls without an answer until Revive, like
// a stopped process.
func (e *Engine) Freeze() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.frozen = true
}

func (e *Engine) track(c net.Conn, s http.ConnState) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch s {
	case http.StateNew:
		if e.down { // dialed before Kill and accepted after it
			c.Close()
		}
		e.conns[c] = true
		e.dialed++
	case http.StateClosed, http.StateHijacked:
		delete(e.conns, c)
	}
}

// Dial connects to the engine. It is for docker.Options.Dial.
func (e *Engine) Dial(ctx context.Context) (net.Conn, error) {
	e.mu.Lock()
	down := e.down || e.closed
	e.mu.Unlock()
	if down {
		return nil, &net.OpError{Op: "dial", Net: "unix", Err: fmt.Errorf("connect: connection refused")}
	}
	return e.socket.DialContext(ctx, "inmem", "engine")
}

// Kill cuts all connections and refuses new ones until Revive. Containers keep running.
func (e *Engine) Kill() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.down = true
	e.events.stop(e.podman)
	for c := range e.conns {
		c.Close()
	}
	for c := range e.attached {
		c.Close()
	}
}

// Revive undoes Kill, Shutdown and Freeze.
func (e *Engine) Revive() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.down, e.frozen, e.closed = false, false, false
	e.events.start()
}

// Script sets what a pull of the image does.
func (e *Engine) Script(image string, s Script) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.scripts[full(image)] = s
}

// A Look is called before an inspect of an image is answered, with a channel
// that closes when the client has gone away. A status other than 0 is the
// answer, with the message.
type InspectHook func(image string, gone <-chan struct{}) (status int, message string)

// OnInspect sets a hook that runs before an inspect is answered.
func (e *Engine) OnInspect(hook InspectHook) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.inspectHook = hook
}

// OnAnswer sets a function that changes the answer to an inspect before it is sent. image is
// the requested reference in full form.
func (e *Engine) OnAnswer(alter func(image string, answer map[string]any)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.alter = alter
}

// Tag gives an image a name, as a pull or a build does. An image that loses its last name
// by that stays.
func (e *Engine) Tag(image string, i puller.Image) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.name(full(image), i)
	e.events.add("image", "tag", e.idOf(i), full(image))
}

// name gives an image a name. The caller holds the lock.
func (e *Engine) name(name string, i puller.Image) {
	before, had := e.images[name]
	e.images[name] = i
	delete(e.dangling, e.idOf(i))
	if id := e.idOf(before); had && len(e.namedAs(id)) == 0 {
		e.dangling[id] = before
	}
}

// Remove removes a name, and with its last name the image.
func (e *Engine) Remove(image string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.untag(full(image))
}

// Counts are numbers of calls and connections.
type Counts struct {
	Pulls    int // begun
	Active   int // now
	Aborted  int // whose client left before the end
	Inspects int
	Dialed   int // connections since the start
	Open     int // connections now
	Created  int // containers since the start
	Attached int // connections with a container's output now
}

// Counts returns the numbers so far.
func (e *Engine) Counts() Counts {
	e.mu.Lock()
	defer e.mu.Unlock()
	return Counts{e.pulls, e.active, e.aborted, e.inspects, e.dialed, len(e.conns), e.created, len(e.attached)}
}

// LastAuth returns the X-Registry-Auth header of the last pull.
func (e *Engine) LastAuth() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.auth
}

func full(image string) string {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		panic("enginetest: " + image + ": " + err.Error())
	}
	return reference.TagNameOnly(named).String()
}

func (e *Engine) ping(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	w.Header().Set("Api-Version", fmt.Sprintf("1.%d", e.api[0]))
	e.mu.Unlock()
	w.Header().Set("Ostype", "linux")
	fmt.Fprint(w, "OK")
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

func refuse(w http.ResponseWriter, status int, message string) {
	answer(w, status, map[string]string{"message": message})
}

func (e *Engine) version(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	api, name := e.api, "Engine"
	if e.podman {
		name = "Podman Engine"
	}
	e.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{
		"Version": "20.10.24", "ApiVersion": fmt.Sprintf("1.%d", api[0]), "MinAPIVersion": fmt.Sprintf("1.%d", api[1]), "Os": "linux", "Arch": "amd64",
		"Components": []any{map[string]any{"Name": name, "Version": "20.10.24"}},
	})
}

func (e *Engine) info(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	machine, root, drivers := e.machine, e.root, e.logDrivers
	driver, status := "overlay2", [][2]string{}
	if e.containerd {
		driver, status = "overlayfs", [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}}
	}
	e.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{
		"Driver": driver, "DriverStatus": status, "OSType": "linux", "Architecture": "x86_64", "Name": machine, "DockerRootDir": root,
		"Plugins": map[string]any{"Log": drivers},
	})
}
