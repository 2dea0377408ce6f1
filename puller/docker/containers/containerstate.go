package containers

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker/classify"
	"github.com/towline/towline/puller/docker/transport"
	"github.com/towline/towline/puller/engines"
)

// containerState is the state of a container. The exit code is nil where the answer has
// none: as 0 it would mean success.
type containerState struct {
	Status                container.ContainerState
	ExitCode              *int
	OOMKilled             bool
	Error                 string
	StartedAt, FinishedAt string // RFC 3339
}

// runs reports whether a container with this status was started and has not exited.
func runs(status container.ContainerState) bool {
	switch status {
	case container.StateRunning, container.StatePaused, container.StateRestarting:
		return true
	}
	return false
}

// state asks for a container's state.
func (e *Driver) state(ctx context.Context, sdk *client.Client, op, id string) (*containerState, error) {
	ctx, cancel := transport.WithLimit(ctx, transport.CallLimit)
	defer cancel()
	_, raw, err := sdk.ContainerInspectWithRaw(ctx, id, false)
	if err != nil {
		return nil, e.conn.Classified(ctx, op, "", err)
	}
	var found struct {
		ID    string `json:"Id"`
		State *containerState
	}
	switch err := json.Unmarshal(raw, &found); {
	case err != nil:
		return nil, puller.Errorf(puller.ErrInternal, "the engine's answer has no valid container state: %w", err)
	case found.ID != id:
		return nil, puller.Errorf(puller.ErrInternal, "the engine answered with the state of another container")
	case found.State == nil || found.State.Status == "":
		return nil, puller.Errorf(puller.ErrInternal, "the engine's answer has no container state")
	}
	return found.State, nil
}

// The engine learns of an exit and of the kernel's out-of-memory kill separately, and of
// the kill up to oomTries times oomDelay later on a busy host.
const (
	oomDelay = 200 * time.Millisecond
	oomTries = 4
)

// exit asks how a container has ended. The end of a wait does not prove an exit: a
// stopping daemon or a proxy can end it too.
func (e *Driver) exit(ctx context.Context, sdk *client.Client, op, id string) (engines.Exit, error) {
	state, err := e.state(ctx, sdk, op, id)
	for tries := 0; tries < oomTries && err == nil && state.ExitCode != nil && *state.ExitCode == 137 && !state.OOMKilled; tries++ {
		select {
		case <-time.After(oomDelay):
			state, err = e.state(ctx, sdk, op, id)
		case <-ctx.Done():
			err = e.conn.Classified(ctx, op, "", ctx.Err())
		}
	}
	if err != nil {
		return engines.Exit{}, err
	}
	switch state.Status {
	case container.StateExited, "stopped": // Podman has both
	case container.StateRemoving, container.StateDead:
		return engines.Exit{}, &puller.Error{Op: op, Kind: puller.ErrNotFound, Err: fmt.Errorf("the container is %s: another client has removed it", state.Status)}
	default:
		return engines.Exit{}, e.conn.Classified(ctx, op, "", &classify.StreamError{Err: fmt.Errorf("the container is %s, not exited", state.Status)})
	}
	if state.ExitCode == nil || *state.ExitCode < 0 {
		return engines.Exit{}, puller.Errorf(puller.ErrInternal, "the engine's answer has no exit code")
	}
	return engines.Exit{Code: *state.ExitCode, OOMKilled: state.OOMKilled, Error: state.Error}, nil
}
