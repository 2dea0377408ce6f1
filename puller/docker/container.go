package docker

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/towline/towline/puller"
)

// workLimit is how long the engine may take to create, start or remove a
// container: it writes to disks that may be busy with pulls.
const workLimit = 2 * time.Minute

// Create implements puller.Engine.
func (e *Engine) Create(ctx context.Context, c puller.Container) (id string, warnings []string, err error) {
	ctx, cancel := limited(ctx, workLimit)
	defer cancel()
	created, err := renegotiated(func() (container.CreateResponse, error) { return e.createContainer(ctx, c) })
	if err == nil && !isContainerID(created.ID) {
		return "", nil, &puller.Error{Op: opCreate, Ref: c.Image, Kind: puller.ErrInternal, Err: errNoContainerID(created.ID)}
	}
	return created.ID, created.Warnings, err
}

// containerID is the form of IDs. They become part of paths.
var containerID = regexp.MustCompile(`^[0-9a-f]{12,64}$`)

func isContainerID(id string) bool { return containerID.MatchString(id) }

func errNoContainerID(id string) error {
	if id == "" {
		return errors.New("the engine's answer has no container ID")
	}
	return fmt.Errorf("the engine's answer has no container ID, but %.80q", id)
}

// Check implements puller.Engine.
func (e *Engine) CheckContainer(ctx context.Context, id string, c puller.Container) error {
	ctx, cancel := limited(ctx, callLimit)
	defer cancel()
	return e.each(ctx, opCreate, func(sdk *client.Client) error {
		made, err := sdk.ContainerInspect(ctx, id)
		switch {
		case cerrdefs.IsNotFound(err): // not the image, which is what that would mean here
			return errors.New("the engine has lost the container that it was asked to create: others have removed it")
		case err != nil:
			return err
		case !isOf(made, id, c):
			return &otherContainer{id}
		case made.ContainerJSONBase == nil || !sameID(made.Image, c.Image):
			image := ""
			if made.ContainerJSONBase != nil {
				image = made.Image
			}
			return &otherImage{image, c.Image}
		case c.Manifest == "":
			return nil
		case made.ImageManifestDescriptor == nil: // from API 1.48 on it is told, as the manifest was
			return &otherImage{"", c.Manifest}
		case made.ImageManifestDescriptor.Digest.String() != c.Manifest:
			return &otherImage{made.ImageManifestDescriptor.Digest.String(), c.Manifest}
		}
		return nil
	})
}

// isOf reports whether an answer is of the container that was created as c.
func isOf(made container.InspectResponse, id string, c puller.Container) bool {
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

// otherContainer is that an engine tells of another container than it was asked
// about, or made another one.
type otherContainer struct{ id string }

func (e *otherContainer) Error() string {
	return fmt.Sprintf("the engine does not say of the container %.12s that it is the one that it was asked to create", e.id)
}

// sameID compares IDs; older engines write them without the algorithm.
func sameID(a, b string) bool {
	return strings.TrimPrefix(a, "sha256:") == strings.TrimPrefix(b, "sha256:")
}

// otherImage is that an engine took another image for a container than was asked for.
type otherImage struct{ got, want string }

func (e *otherImage) Error() string {
	if e.got == "" {
		return fmt.Sprintf("the engine does not say which image it made the container of; %s was asked for", e.want)
	}
	return fmt.Sprintf("the engine made the container of the image %.80q, not of %s", e.got, e.want)
}

func (e *Engine) createContainer(ctx context.Context, c puller.Container) (container.CreateResponse, error) {
	fault := func(err error) (container.CreateResponse, error) {
		return container.CreateResponse{}, e.fault(ctx, opCreate, c.Image, err)
	}
	sdk, err := e.client(ctx)
	if err != nil {
		return fault(err)
	}
	log, err := e.logging(ctx, sdk)
	if err != nil {
		return fault(err)
	}
	var platform *ocispec.Platform
	if c.Platform != "" && versions.GreaterThanOrEqualTo(sdk.ClientVersion(), "1.41") {
		platform = ociPlatform(c.Platform)
	}
	created, err := sdk.ContainerCreate(ctx, config(c), hostConfig(c, log), nil, platform, c.Name)
	if err != nil {
		return fault(err)
	}
	return created, nil
}

func config(c puller.Container) *container.Config {
	return &container.Config{
		Image: c.Image, Cmd: c.Cmd, Entrypoint: c.Entrypoint, Env: c.Env, WorkingDir: c.Workdir, User: c.User, Labels: c.Labels,
		Tty: c.TTY, AttachStdout: true, AttachStderr: true,
		StopSignal: "SIGTERM", // whatever the image has
	}
}

// hostConfig is where a container is locked down.
func hostConfig(c puller.Container, log container.LogConfig) *container.HostConfig {
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

// logging is how an engine is asked to keep what containers print.
type logging struct {
	sdk    *client.Client // which the engine was asked with
	config container.LogConfig
}

// Limits of what the engine keeps of one container's output: logFiles files of
// logSize.
const (
	logSize  = "20m"
	logFiles = "5"
)

// logging returns the log driver that loses least. `local` keeps every byte;
// json-file replaces what is not UTF-8. Podman has neither; its k8s-file keeps
// every byte too. An engine with none of them keeps its default.
func (e *Engine) logging(ctx context.Context, sdk *client.Client) (container.LogConfig, error) {
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

// Stop implements puller.Engine.
func (e *Engine) Stop(ctx context.Context, id string, grace time.Duration) error {
	ctx, cancel := limited(ctx, grace+workLimit)
	defer cancel()
	// The engine counts in seconds, and 0 is SIGKILL at once.
	seconds := int((grace + time.Second - 1) / time.Second)
	return e.each(ctx, opStop, func(sdk *client.Client) error {
		err := sdk.ContainerStop(ctx, id, container.StopOptions{Timeout: &seconds})
		if cerrdefs.IsNotFound(err) || err != nil && strings.Contains(err.Error(), "is not running") {
			return nil
		}
		return err
	})
}

// Remove implements puller.Engine.
func (e *Engine) Remove(ctx context.Context, id string) error {
	ctx, cancel := limited(ctx, workLimit)
	defer cancel()
	return e.each(ctx, opRemove, func(sdk *client.Client) error {
		err := sdk.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
		if cerrdefs.IsNotFound(err) || cerrdefs.IsConflict(err) && strings.Contains(err.Error(), "already in progress") {
			return nil
		}
		return err
	})
}

// each makes a call that answers nothing.
func (e *Engine) each(ctx context.Context, op string, call func(*client.Client) error) error {
	_, err := renegotiated(func() (struct{}, error) {
		sdk, err := e.client(ctx)
		if err == nil {
			err = call(sdk)
		}
		if err != nil {
			err = e.fault(ctx, op, "", err)
		}
		return struct{}{}, err
	})
	return err
}

// Containers implements puller.Engine.
func (e *Engine) Containers(ctx context.Context, label, value string) ([]puller.ContainerState, error) {
	ctx, cancel := limited(ctx, callLimit)
	defer cancel()
	var states []puller.ContainerState
	err := e.each(ctx, opContainers, func(sdk *client.Client) error {
		list, err := sdk.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", label+"="+value))})
		states = nil
		for _, c := range list {
			if !isContainerID(c.ID) {
				return errNoContainerID(c.ID)
			}
			names := make([]string, len(c.Names))
			for i, name := range c.Names {
				names[i] = strings.TrimPrefix(name, "/")
			}
			states = append(states, puller.ContainerState{ID: c.ID, Names: names, Labels: c.Labels, ImageID: c.ImageID, Started: c.State != container.StateCreated, Running: runs(c.State)})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return states, nil
}
