package containers

import (
	"context"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"

	"github.com/towline/towline/puller"
	"github.com/towline/towline/puller/docker/classify"
	"github.com/towline/towline/puller/docker/transport"
	"github.com/towline/towline/puller/engines"
)

// Run implements engines.Engine.
//
// It attaches before it starts the container, so that no output is lost. The wait begins
// after the start: a container that was started and is not running has exited.
func (e *Driver) Run(ctx context.Context, id string, tty bool, started func(), each func(puller.Output, []byte)) (engines.Exit, error) {
	fail := func(err error) (engines.Exit, error) {
		return engines.Exit{}, e.conn.Classified(ctx, classify.OpRun, "", err)
	}
	sdk, err := e.conn.ClientInTime(ctx)
	if err != nil {
		return fail(err)
	}
	body, err := e.conn.Attach(ctx, sdk, id)
	if err != nil {
		return fail(err)
	}
	if err := e.start(ctx, sdk, id); err != nil {
		body.Close()
		return engines.Exit{}, err
	}
	started()
	out := &output{tty: tty, each: each}
	whole, err := watch(ctx, sdk, id, body, out)
	if err == nil && !whole {
		err = remainder(ctx, sdk, id, out)
	}
	if err != nil {
		return fail(err)
	}
	return e.exit(ctx, sdk, classify.OpRun, id)
}

func (e *Driver) start(ctx context.Context, sdk *client.Client, id string) error {
	ctx, cancel := transport.WithLimit(ctx, transport.WorkLimit)
	defer cancel()
	if err := sdk.ContainerStart(ctx, id, container.StartOptions{}); err != nil {
		return e.conn.Classified(ctx, classify.OpRun, "", err)
	}
	return nil
}

// Follow implements engines.Engine.
func (e *Driver) Follow(ctx context.Context, id string, tty bool, each func(puller.Output, []byte)) (engines.Exit, error) {
	fail := func(err error) (engines.Exit, error) {
		return engines.Exit{}, e.conn.Classified(ctx, classify.OpFollow, "", err)
	}
	sdk, err := e.conn.ClientInTime(ctx)
	if err != nil {
		return fail(err)
	}
	state, err := e.state(ctx, sdk, classify.OpFollow, id)
	if err != nil {
		return engines.Exit{}, err
	}
	if state.Status == container.StateCreated {
		return engines.Exit{}, puller.Errorf(puller.ErrConflict, "the container was never started")
	}
	out := &output{tty: tty, each: each}
	if runs(state.Status) {
		body, err := logs(ctx, sdk, id, true)
		if err != nil {
			return fail(err)
		}
		if _, err := watch(ctx, sdk, id, body, out); err != nil {
			return fail(err)
		}
	}
	// At the exit, engines end a log that is followed, and may omit its last lines (20.10).
	if err := remainder(ctx, sdk, id, out); err != nil {
		return fail(err)
	}
	return e.exit(ctx, sdk, classify.OpFollow, id)
}

// wait returns when the container does not run.
func wait(ctx context.Context, sdk *client.Client, id string) error {
	exited, failed := sdk.ContainerWait(ctx, id, container.WaitConditionNotRunning)
	// One of the two always sends: ctx ends the SDK's read.
	select {
	case answer := <-exited:
		if answer.Error != nil {
			return &classify.EngineError{Message: answer.Error.Message}
		}
		return nil
	case err := <-failed:
		return err
	}
}
