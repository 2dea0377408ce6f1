package docker

import (
	"context"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"github.com/towline/towline/puller"
)

// Run implements puller.Engine.
//
// It attaches before it starts the container, so that nothing is lost, however
// soon it exits. The wait begins after the start: a container that was started
// and is not running has exited, and nobody but us removes it.
func (e *Engine) Run(ctx context.Context, id string, tty bool, started func(), each func(puller.Output, []byte)) (puller.Exit, error) {
	fault := func(err error) (puller.Exit, error) { return puller.Exit{}, e.fault(ctx, opRun, "", err) }
	sdk, err := e.reach(ctx)
	if err != nil {
		return fault(err)
	}
	body, err := e.attach(ctx, sdk, id)
	if err != nil {
		return fault(err)
	}
	if err := e.start(ctx, sdk, id); err != nil {
		body.Close()
		return puller.Exit{}, err
	}
	started()
	out := &output{tty: tty, each: each}
	whole, err := watch(ctx, sdk, id, body, out)
	if err == nil && !whole {
		err = rest(ctx, sdk, id, out)
	}
	if err != nil {
		return fault(err)
	}
	return e.exit(ctx, sdk, opRun, id)
}

// reach is client for calls that have no limit of their own.
func (e *Engine) reach(ctx context.Context) (*client.Client, error) {
	limit, cancel := limited(ctx, callLimit)
	defer cancel()
	sdk, err := e.client(limit)
	if err != nil && ctx.Err() == nil && limit.Err() != nil {
		err = &unreachable{context.Cause(limit)}
	}
	return sdk, err
}

func (e *Engine) start(ctx context.Context, sdk *client.Client, id string) error {
	ctx, cancel := limited(ctx, workLimit)
	defer cancel()
	if err := sdk.ContainerStart(ctx, id, container.StartOptions{}); err != nil {
		return e.fault(ctx, opRun, "", err)
	}
	return nil
}

// Follow implements puller.Engine.
func (e *Engine) Follow(ctx context.Context, id string, tty bool, each func(puller.Output, []byte)) (puller.Exit, error) {
	fault := func(err error) (puller.Exit, error) { return puller.Exit{}, e.fault(ctx, opFollow, "", err) }
	sdk, err := e.reach(ctx)
	if err != nil {
		return fault(err)
	}
	state, err := e.state(ctx, sdk, opFollow, id)
	if err != nil {
		return puller.Exit{}, err
	}
	if state.Status == container.StateCreated {
		return puller.Exit{}, puller.Errorf(puller.ErrConflict, "the container was never started")
	}
	out := &output{tty: tty, each: each}
	if runs(state.Status) {
		body, err := logs(ctx, sdk, id, true)
		if err != nil {
			return fault(err)
		}
		if _, err := watch(ctx, sdk, id, body, out); err != nil {
			return fault(err)
		}
	}
	// Engines end a log that is followed when the container exits, and may leave
	// out what came last (20.10).
	if err := rest(ctx, sdk, id, out); err != nil {
		return fault(err)
	}
	return e.exit(ctx, sdk, opFollow, id)
}

// wait returns when the container is not running.
func wait(ctx context.Context, sdk *client.Client, id string) error {
	exited, failed := sdk.ContainerWait(ctx, id, container.WaitConditionNotRunning)
	// One of them always comes: ctx ends the answer that the SDK reads.
	select {
	case answer := <-exited:
		if answer.Error != nil {
			return &engineError{answer.Error.Message}
		}
		return nil
	case err := <-failed:
		return err
	}
}
