package enginetest

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"time"
)

// ContainerRequest is the request of POST /containers/create, with the field names of
// Docker's API.
type ContainerRequest struct {
	Name                      string `json:"-"` // from the query
	Image                     string
	Cmd, Entrypoint, Env      []string
	WorkingDir, User          string
	Tty                       bool
	AttachStdin, OpenStdin    bool
	AttachStdout              bool
	AttachStderr              bool
	StopSignal                string
	Labels                    map[string]string
	HostConfig                HostConfig
	Platform                  string         `json:"-"` // from the query
	NetworkingConfig, Volumes map[string]any `json:",omitempty"`
}

// HostConfig is what a container may do on its machine, and its resource limits.
type HostConfig struct {
	CapAdd, CapDrop, SecurityOpt []string
	Privileged, AutoRemove       bool
	Memory, MemorySwap, NanoCpus int64
	PidsLimit                    *int64
	NetworkMode                  string
	PidMode, IpcMode, UsernsMode string
	UTSMode, CgroupnsMode        string
	Binds                        []string
	Mounts, Devices              []any
	RestartPolicy                struct{ Name string }
	LogConfig                    struct {
		Type   string
		Config map[string]string
	}
}

// ContainerSeen is a container that the engine has now.
type ContainerSeen struct {
	ID, Name  string
	Status    string            // created, running or exited
	Labels    map[string]string // the image's, replaced by the request's
	Requested ContainerRequest
	// Image is the image's ID. Manifest is the digest of the platform's manifest in the
	// containerd image store.
	Image, Manifest string
	Created         time.Time
}

// A ContainerLook is called before a call about containers is answered: call is
// create, start, attach, wait, logs, stop, remove, list or inspect; id is "" for
// create and list; gone closes when the client has gone away. A status other
// than 0 is the answer, with the message.
type ContainerHook func(call, id string, gone <-chan struct{}) (status int, message string)

// Program sets what containers of an image do. The image is an ID, or in the containerd image
// store the digest of the platform's manifest. Without a program, containers exit with 0 at
// once.
func (e *Engine) Program(image string, p Program) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.programs[image] = p
}

// Label gives an image labels, by its ID. Its containers inherit them.
func (e *Engine) Label(image string, labels map[string]string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.labels[image] = labels
}

// OnContainer sets a hook that runs before calls about containers are answered.
func (e *Engine) OnContainer(hook ContainerHook) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.containerHook = hook
}

// OnContainerAnswer sets a function that replaces the answers to create, inspect, wait and
// list, and to the list of images, which it is told as "images".
func (e *Engine) OnContainerAnswer(alter func(call string, answer any) any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.containerAnswer = alter
}

// OnStream sets a function that replaces the bytes of attach and logs. A nil result leaves
// the container's output.
func (e *Engine) OnStream(override func(call string) []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stream = override
}

// altered returns the answer to a call after OnContainerAnswer.
func (e *Engine) altered(call string, answer any) any {
	e.mu.Lock()
	alter := e.containerAnswer
	e.mu.Unlock()
	if alter == nil {
		return answer
	}
	return alter(call, answer)
}

// lie returns what is sent in place of a container's stream, nil for nothing.
func (e *Engine) streamOverride(call string) []byte {
	e.mu.Lock()
	override := e.stream
	e.mu.Unlock()
	if override == nil {
		return nil
	}
	return override(call)
}

// SetLogDrivers sets the engine's log drivers. The defaults are local and json-file.
func (e *Engine) SetLogDrivers(names ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.logDrivers = names
}

// Warn sets the warnings in the answer to every later create call.
func (e *Engine) Warn(warnings ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.warnings = warnings
}

// DropCreateAnswer makes the engine create the next container and cut the connection instead
// of an answer.
func (e *Engine) DropCreateAnswer() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dropAnswer = true
}

// CutAttached cuts the connections with containers' output, as a proxy does. Containers keep
// running.
func (e *Engine) CutAttached() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.attached {
		c.Close()
	}
}

// HoldStreams keeps containers' streams open after their exit, as a process that was left
// behind does.
func (e *Engine) HoldStreams() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.holdStreams = true
}

// AddContainer adds a container without a call, as an earlier daemon may have left it, and
// starts it where start is true.
func (e *Engine) AddContainer(r ContainerRequest, start bool) (id string) {
	c := e.newContainer(r, r.Image, "")
	if start {
		e.launch(c)
	}
	return c.id
}

// Containers returns the engine's containers, oldest first.
func (e *Engine) Containers() []ContainerSeen {
	e.mu.Lock()
	defer e.mu.Unlock()
	var seen []ContainerSeen
	for _, c := range e.containers {
		c.mu.Lock()
		seen = append(seen, ContainerSeen{c.id, c.name, c.status, c.labels, c.requested, c.image, c.manifest, c.madeAt})
		c.mu.Unlock()
	}
	return seen
}

func (e *Engine) newContainer(r ContainerRequest, image, manifest string) *container {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.created++
	labels := make(map[string]string)
	maps.Copy(labels, e.labels[r.Image])
	maps.Copy(labels, r.Labels)
	c := &container{
		id: fmt.Sprintf("%064x", e.created), name: cmp.Or(r.Name, fmt.Sprintf("unnamed_%d", e.created)), requested: r, labels: labels,
		image: image, manifest: manifest, status: "created",
		killed: make(chan struct{}), removed: make(chan struct{}), changed: make(chan struct{}),
	}
	c.madeAt = time.Now()
	c.died = func() { e.events.add("container", "die", c.id, r.Image) }
	e.containers = append(e.containers, c)
	e.events.add("container", "create", c.id, r.Image)
	return c
}

// launch starts a container's program. It returns false if it was started before.
func (e *Engine) launch(c *container) bool {
	e.mu.Lock()
	program := e.programs[c.image]
	if of, ok := e.programs[c.manifest]; ok {
		program = of
	}
	e.mu.Unlock()
	c.mu.Lock()
	if c.status != "created" {
		c.mu.Unlock()
		return false
	}
	c.status, c.started = "running", time.Now()
	e.events.add("container", "start", c.id, c.requested.Image)
	c.change()
	c.mu.Unlock()
	e.programsRunning.Go(func() {
		code := 0
		if program != nil {
			code = program(&Process{ID: c.id, Requested: c.requested, container: c})
		}
		c.exit(code, false)
	})
	return true
}

// stop ends a container as docker stop does: with SIGTERM, and with SIGKILL after grace.
func (e *Engine) stop(c *container, grace time.Duration) {
	c.mu.Lock()
	ignores := c.ignoresTERM
	c.mu.Unlock()
	if !ignores {
		c.exit(143, true)
		return
	}
	expired := make(chan struct{})
	defer time.AfterFunc(grace, func() { close(expired) }).Stop()
	c.until(expired, func() bool { return c.status != "running" })
	c.exit(137, true)
}

// drop removes a container, and kills it if it runs.
func (e *Engine) drop(c *container) {
	c.exit(137, true)
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, other := range e.containers {
		if other == c {
			e.containers = append(e.containers[:i:i], e.containers[i+1:]...)
			e.events.add("container", "destroy", c.id, c.requested.Image)
			close(c.removed)
			return
		}
	}
}

// find returns a container, or nil.
func (e *Engine) find(id string) *container {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.containers {
		if c.id == id {
			return c
		}
	}
	return nil
}

// endContainers kills all containers. No call may follow.
func (e *Engine) endContainers() {
	e.mu.Lock()
	all := e.containers
	for c := range e.attached {
		c.Close()
	}
	e.mu.Unlock()
	for _, c := range all {
		c.exit(137, true)
	}
	e.programsRunning.Wait()
}

// hold registers a raw stream's connection, so that Kill cuts it too. release closes it.
func (e *Engine) hold(c net.Conn) (release func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.attached[c] = true
	return func() {
		c.Close()
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.attached, c)
	}
}
