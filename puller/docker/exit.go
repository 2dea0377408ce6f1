package docker

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"github.com/towline/towline/puller"
)

// containerState is what a container does, as the engine tells it. What is nil
// was not told: as 0 it would be a success.
type containerState struct {
	Status                container.ContainerState
	ExitCode              *int
	OOMKilled             bool
	Error                 string
	StartedAt, FinishedAt string // RFC 3339
}

// runs reports whether a container of a status has been started, and has not
// exited.
func runs(status container.ContainerState) bool {
	switch status {
	case container.StateRunning, container.StatePaused, container.StateRestarting:
		return true
	}
	return false
}

// state asks what a container does.
func (e *Engine) state(ctx context.Context, sdk *client.Client, op, id string) (*containerState, error) {
	ctx, cancel := limited(ctx, callLimit)
	defer cancel()
	_, raw, err := sdk.ContainerInspectWithRaw(ctx, id, false)
	if err != nil {
		return nil, e.fault(ctx, op, "", err)
	}
	var found struct {
		ID    string `json:"Id"`
		State *containerState
	}
	switch err := json.Unmarshal(raw, &found); {
	case err != nil:
		return nil, puller.Errorf(puller.ErrInternal, "the engine does not say what the container does: %w", err)
	case found.ID != id:
		return nil, puller.Errorf(puller.ErrInternal, "the engine was asked what one container does, and tells it of another")
	case found.State == nil || found.State.Status == "":
		return nil, puller.Errorf(puller.ErrInternal, "the engine does not say what the container does")
	}
	return found.State, nil
}

// oomDelay is how long the engine may take to learn that it was for want of
// memory that a container was killed: it hears of that and of the exit by ways
// of their own. It is asked oomTries times: a busy host is late.
const (
	oomDelay = 200 * time.Millisecond
	oomTries = 4
)

// exit asks how a container has ended. The answer of a wait is not enough: a
// daemon that is stopped, or something between, may end it too.
func (e *Engine) exit(ctx context.Context, sdk *client.Client, op, id string) (puller.Exit, error) {
	state, err := e.state(ctx, sdk, op, id)
	for tries := 0; tries < oomTries && err == nil && state.ExitCode != nil && *state.ExitCode == 137 && !state.OOMKilled; tries++ {
		select {
		case <-time.After(oomDelay):
			state, err = e.state(ctx, sdk, op, id)
		case <-ctx.Done():
			err = e.fault(ctx, op, "", ctx.Err())
		}
	}
	if err != nil {
		return puller.Exit{}, err
	}
	switch state.Status {
	case container.StateExited, "stopped": // Podman has both
	case container.StateRemoving, container.StateDead:
		return puller.Exit{}, &puller.Error{Op: op, Kind: puller.ErrNotFound, Err: fmt.Errorf("the container is %s: others have removed it", state.Status)}
	default:
		return puller.Exit{}, e.fault(ctx, op, "", &streamError{fmt.Errorf("the container is %s, not exited", state.Status)})
	}
	if state.ExitCode == nil || *state.ExitCode < 0 {
		return puller.Exit{}, puller.Errorf(puller.ErrInternal, "the engine does not say which code the container has exited with")
	}
	return puller.Exit{Code: *state.ExitCode, OOMKilled: state.OOMKilled, Error: state.Error}, nil
}
