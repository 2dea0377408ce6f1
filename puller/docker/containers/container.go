// Package containers creates, runs and follows the containers of a Docker engine.
package containers

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker/classify"
	"github.com/towline/towline/puller/docker/transport"
	"github.com/towline/towline/puller/engines"
)

// Driver is the part of a engines.Engine that is about containers. Its methods may be
// called from anywhere.
type Driver struct {
	conn *transport.Connection
	log  atomic.Pointer[logging] // nil until it is known
}

// New returns a Driver of an engine's containers.
func New(c *transport.Connection) *Driver { return &Driver{conn: c} }

// Create implements engines.Engine.
func (e *Driver) Create(ctx context.Context, c engines.Container) (id string, warnings []string, err error) {
	ctx, cancel := transport.WithLimit(ctx, transport.WorkLimit)
	defer cancel()
	created, err := transport.Renegotiated(func() (container.CreateResponse, error) { return e.createContainer(ctx, c) })
	if err == nil && !isContainerID(created.ID) {
		return "", nil, &puller.Error{Op: classify.OpCreate, Ref: c.Image, Kind: puller.ErrInternal, Err: errNoContainerID(created.ID)}
	}
	return created.ID, created.Warnings, err
}

// containerID is the form of container IDs. They become part of URL paths.
var containerID = regexp.MustCompile(`^[0-9a-f]{12,64}$`)

func isContainerID(id string) bool { return containerID.MatchString(id) }

func errNoContainerID(id string) error {
	if id == "" {
		return errors.New("the engine's answer has no container ID")
	}
	return fmt.Errorf("the engine's answer has no container ID, but %.80q", id)
}

// CheckContainer implements engines.Engine.
func (e *Driver) CheckContainer(ctx context.Context, id string, c engines.Container) error {
	ctx, cancel := transport.WithLimit(ctx, transport.CallLimit)
	defer cancel()
	return e.conn.Call(ctx, classify.OpCreate, func(sdk *client.Client) error {
		made, err := sdk.ContainerInspect(ctx, id)
		switch {
		case cerrdefs.IsNotFound(err): // classified under opCreate, a "not found" would mean the image
			return errors.New("the container was removed right after its creation")
		case err != nil:
			return err
		case !isOf(made, id, c):
			return &wrongContainerError{id}
		case made.ContainerJSONBase == nil || !sameID(made.Image, c.Image):
			image := ""
			if made.ContainerJSONBase != nil {
				image = made.Image
			}
			return &classify.WrongImageError{Got: image, Want: c.Image}
		case c.Manifest == "":
			return nil
		case made.ImageManifestDescriptor == nil: // API 1.48 and later have it, and c.Manifest comes from there
			return &classify.WrongImageError{Want: c.Manifest}
		case made.ImageManifestDescriptor.Digest.String() != c.Manifest:
			return &classify.WrongImageError{Got: made.ImageManifestDescriptor.Digest.String(), Want: c.Manifest}
		}
		return nil
	})
}

// isOf reports whether an answer describes the container that was created as c.
func isOf(made container.InspectResponse, id string, c engines.Container) bool {
	if made.ContainerJSONBase == nil || made.ID != id || c.Name != "" && strings.TrimPrefix(made.Name, "/") != c.Name {
		return false
	}
	for name, value := range c.Labels {
		if made.Config == nil || made.Config.Labels[name] != value {
			return false
		}
	}
	return true
}

// wrongContainerError: the engine describes another container than the one it created.
type wrongContainerError struct{ id string }

func (e *wrongContainerError) Error() string {
	return fmt.Sprintf("the engine does not confirm that container %.12s is the one that it was asked to create", e.id)
}

// sameID compares image IDs. Older engines write them without the algorithm.
func sameID(a, b string) bool {
	return strings.TrimPrefix(a, "sha256:") == strings.TrimPrefix(b, "sha256:")
}

func (e *Driver) createContainer(ctx context.Context, c engines.Container) (container.CreateResponse, error) {
	fail := func(err error) (container.CreateResponse, error) {
		return container.CreateResponse{}, e.conn.Classified(ctx, classify.OpCreate, c.Image, err)
	}
	sdk, err := e.conn.Client(ctx)
	if err != nil {
		return fail(err)
	}
	log, err := e.logging(ctx, sdk)
	if err != nil {
		return fail(err)
	}
	var platform *ocispec.Platform
	if c.Platform != "" && versions.GreaterThanOrEqualTo(sdk.ClientVersion(), "1.41") {
		platform = transport.Platform(c.Platform)
	}
	created, err := sdk.ContainerCreate(ctx, config(c), hostConfig(c, log), nil, platform, c.Name)
	if err != nil {
		return fail(err)
	}
	return created, nil
}

func config(c engines.Container) *container.Config {
	return &container.Config{
		Image: c.Image, Cmd: c.Cmd, Entrypoint: c.Entrypoint, Env: c.Env, WorkingDir: c.Workdir, User: c.User, Labels: c.Labels,
		Tty: c.TTY, AttachStdout: true, AttachStderr: true,
		StopSignal: "SIGTERM", // instead of the image's own
	}
}

// hostConfig returns the restrictions of a container.
func hostConfig(c engines.Container, log container.LogConfig) *container.HostConfig {
	h := &container.HostConfig{
		CapDrop:       []string{"ALL"},
		SecurityOpt:   []string{"no-new-privileges"},
		NetworkMode:   container.NetworkMode(c.Network),
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
		LogConfig:     log,
	}
	h.Memory, h.MemorySwap, h.NanoCPUs = c.Memory, c.Memory, c.NanoCPUs
	if c.Pids > 0 {
		h.PidsLimit = &c.Pids
	}
	return h
}

// logging is the log driver that an engine is asked to use.
type logging struct {
	sdk    *client.Client // that the engine was asked with
	config container.LogConfig
}

// The engine keeps at most logFiles files of logSize of a container's output.
const (
	logSize  = "20m"
	logFiles = "5"
)

// logging returns the log driver that loses least. `local` and Podman's k8s-file keep
// every byte; json-file replaces bytes that are not UTF-8. An engine without these three
// uses its default.
func (e *Driver) logging(ctx context.Context, sdk *client.Client) (container.LogConfig, error) {
	if known := e.log.Load(); known != nil && known.sdk == sdk {
		return known.config, nil
	}
	info, err := sdk.Info(ctx)
	if err != nil {
		return container.LogConfig{}, err
	}
	var c container.LogConfig
	for _, driver := range []container.LogConfig{
		{Type: "local", Config: map[string]string{"max-size": logSize, "max-file": logFiles}},
		{Type: "k8s-file", Config: map[string]string{"max-size": logSize}},
		{Type: "json-file", Config: map[string]string{"max-size": logSize, "max-file": logFiles}},
	} {
		if slices.Contains(info.Plugins.Log, driver.Type) {
			c = driver
			break
		}
	}
	e.log.Store(&logging{sdk, c})
	return c, nil
}

// Stop implements engines.Engine.
func (e *Driver) Stop(ctx context.Context, id string, grace time.Duration) error {
	ctx, cancel := transport.WithLimit(ctx, grace+transport.WorkLimit)
	defer cancel()
	// The engine counts in seconds, and 0 is SIGKILL at once.
	seconds := int((grace + time.Second - 1) / time.Second)
	return e.conn.Call(ctx, classify.OpStop, func(sdk *client.Client) error {
		err := sdk.ContainerStop(ctx, id, container.StopOptions{Timeout: &seconds})
		if cerrdefs.IsNotFound(err) || err != nil && classify.NotRunning.MatchString(err.Error()) {
			return nil
		}
		return err
	})
}

// Remove implements engines.Engine.
func (e *Driver) Remove(ctx context.Context, id string) error {
	ctx, cancel := transport.WithLimit(ctx, transport.WorkLimit)
	defer cancel()
	return e.conn.Call(ctx, classify.OpRemove, func(sdk *client.Client) error {
		err := sdk.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
		if cerrdefs.IsNotFound(err) || cerrdefs.IsConflict(err) && classify.RemovalInProgress.MatchString(err.Error()) {
			return nil
		}
		return err
	})
}

// Containers implements engines.Engine.
func (e *Driver) Containers(ctx context.Context, label, value string) ([]engines.ContainerState, error) {
	return e.listContainers(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", label+"="+value))})
}

// AllContainers implements engines.Engine.
func (e *Driver) AllContainers(ctx context.Context) ([]engines.ContainerState, error) {
	return e.listContainers(ctx, container.ListOptions{All: true})
}

func (e *Driver) listContainers(ctx context.Context, o container.ListOptions) ([]engines.ContainerState, error) {
	ctx, cancel := transport.WithLimit(ctx, transport.CallLimit)
	defer cancel()
	var states []engines.ContainerState
	err := e.conn.Call(ctx, classify.OpContainers, func(sdk *client.Client) error {
		list, err := sdk.ContainerList(ctx, o)
		states = nil
		for _, c := range list {
			if !isContainerID(c.ID) {
				return errNoContainerID(c.ID)
			}
			names := make([]string, len(c.Names))
			for i, name := range c.Names {
				names[i] = strings.TrimPrefix(name, "/")
			}
			state := engines.ContainerState{ID: c.ID, Names: names, Image: c.Image, Labels: c.Labels, ImageID: c.ImageID, Started: c.State != container.StateCreated, Running: runs(c.State)}
			if c.Created > 0 {
				state.Created = time.Unix(c.Created, 0)
			}
			states = append(states, state)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return states, nil
}

// Ran implements engines.Engine.
func (e *Driver) Ran(ctx context.Context, id string) (time.Time, error) {
	sdk, err := e.conn.ClientInTime(ctx)
	if err != nil {
		return time.Time{}, e.conn.Classified(ctx, classify.OpFollow, "", err)
	}
	state, err := e.state(ctx, sdk, classify.OpFollow, id)
	switch {
	case err != nil:
		return time.Time{}, err
	case runs(state.Status):
		return time.Now(), nil
	}
	// An engine's zero time is the year 1. What can't be read is taken for it.
	finished, _ := time.Parse(time.RFC3339Nano, state.FinishedAt)
	if finished.Unix() <= 0 {
		return time.Time{}, nil
	}
	return finished, nil
}
