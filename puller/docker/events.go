package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/client"

	"github.com/towline/towline/puller"
)

const (
	// witnessDelay is how much later than the exit an engine may tell of it.
	witnessDelay = 2 * time.Second
	// leastEvents is how many events every engine keeps (64 before Docker 17.04,
	// 256 since). Where there are fewer, none was dropped.
	leastEvents = 64
)

// ContainerEvents implements puller.Engine. dockerd keeps its last events in memory: one
// that was restarted knows nothing of what was before. One that is being stopped
// answers on the connections that there are while it ends its containers, but
// takes no new ones; so it is asked on a new one.
func (e *Engine) ContainerEvents(ctx context.Context, id string) (w puller.ContainerEvents, err error) {
	fault := func(err error) (puller.ContainerEvents, error) {
		return puller.ContainerEvents{}, e.fault(ctx, opFollow, "", err)
	}
	sdk, err := e.reach(ctx)
	if err != nil {
		return fault(err)
	}
	state, err := e.state(ctx, sdk, opFollow, id)
	if err != nil {
		return puller.ContainerEvents{}, err
	}
	started, err1 := time.Parse(time.RFC3339Nano, state.StartedAt)
	finished, err2 := time.Parse(time.RFC3339Nano, state.FinishedAt)
	if err1 != nil || err2 != nil || finished.Before(started) || started.Unix() <= 0 {
		return puller.ContainerEvents{}, nil
	}
	limit, cancel := limited(ctx, callLimit)
	defer cancel()
	sdk, err = e.reconnected(sdk)
	if err != nil {
		return fault(err)
	}
	told, failed := sdk.Events(limit, events.ListOptions{Since: moment(started.Add(-time.Second)), Until: moment(finished.Add(witnessDelay))})
	all := 0
	for ; !w.Exit; all++ { // what follows that is of no interest
		select {
		case m := <-told:
			if m.Type == events.ContainerEventType && m.Actor.ID == id {
				w.Start = w.Start || m.Action == events.ActionStart
				w.Exit = m.Action == events.ActionDie
			}
			continue
		case err := <-failed:
			if !errors.Is(err, io.EOF) {
				return fault(err)
			}
		}
		break
	}
	if all >= leastEvents || w.Start && w.Exit {
		return w, nil
	}
	// Podman keeps its events elsewhere, and its containers do not end with it.
	info, err := e.Info(ctx)
	w.Complete = err == nil && info.Name != podman
	return w, err
}

// reconnected returns a client with a new connection for each call.
func (e *Engine) reconnected(sdk *client.Client) (*client.Client, error) {
	return client.NewClientWithOpts(append(slices.Clone(e.opts),
		client.WithHTTPClient(&http.Client{Transport: bounded{e.fresh}, CheckRedirect: client.CheckRedirect}),
		client.WithVersion(sdk.ClientVersion()))...)
}

// moment is a time as the engine's API takes it.
func moment(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }
